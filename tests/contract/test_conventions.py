"""HTTP conventions, the route table, errors in the channel of the request, pages."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from nodes.cloud.access import Cloud
from nodes.front.routes import BUILT, ROUTES
from tests.contract.schemas import SCHEMAS, check_answer
from tests.contract.support import Api, line, vm_spec

PATHS = Path(__file__).parent.parent / "data" / "photon-v1-paths.txt"
SHARED = Path(__file__).parents[3] / "shared" / "api" / "photon-v1.openapi.yaml"


def contract_paths() -> set[tuple[str, str]]:
    rows = PATHS.read_text().splitlines()
    return {(row.split()[0], row.split()[1]) for row in rows if not row.startswith("#")}


def test_every_route_of_the_contract_is_served_and_no_other() -> None:
    assert {(route.method, route.path) for route in ROUTES} == contract_paths()
    assert len(ROUTES) == len(contract_paths()), "a route is there twice"


def test_the_copied_path_list_is_the_contracts() -> None:
    if not SHARED.exists():
        pytest.skip(f"NOT CHECKED: {SHARED.name} is not there, the copied list may be old")
    yaml = pytest.importorskip("yaml")
    paths = yaml.safe_load(SHARED.read_text())["paths"]
    methods = {"get", "post", "put", "patch", "delete"}
    there = {(m.upper(), p) for p, item in paths.items() for m in item if m in methods}
    assert there == contract_paths()


@pytest.mark.parametrize(("method", "path"), sorted(contract_paths()))
async def test_what_is_not_built_says_so(api: Api, method: str, path: str) -> None:
    built = {(route.method, route.path) for route in BUILT}
    got = await api.send(method, path.replace("{id}", str(uuid.uuid4())))
    if (method, path) in built:
        assert got.status != 501
    else:
        assert got.status == 501
        assert got.body["code"] == "NotBuiltYet"
        assert set(got.body) == {"code", "message", "data"}


def test_the_copied_schemas_are_the_contracts() -> None:
    if not SHARED.exists():
        pytest.skip(f"NOT CHECKED: {SHARED.name} is not there, the copied schemas may be old")
    yaml = pytest.importorskip("yaml")
    there = yaml.safe_load(SHARED.read_text())["components"]["schemas"]
    for name, schema in SCHEMAS.items():
        for word in set(there[name]) - {"description"}:
            if word != "properties":
                assert schema[word] == there[name][word], (name, word)
        assert set(schema.get("properties", {})) == set(there[name].get("properties", {}))


async def test_every_answer_carries_version_and_request_id(api: Api) -> None:
    seen = set()
    for method, path in [("GET", "/tenants"), ("GET", "/none"), ("PUT", "/tenants")]:
        headers = (await api.send(method, path)).headers
        assert headers["X-API-VERSION"] == "1.0"
        seen.add(uuid.UUID(headers["REQUEST-ID"]))
    assert len(seen) == 3


async def test_no_version_segment_and_unknown_urls(api: Api) -> None:
    for path in ["/v1/tenants", "/", "/tenants/x/y/z"]:
        got = await api.get(path)
        assert (got.status, got.body["code"], got.body["data"]) == (404, "NotFound", {})


async def test_wrong_method_and_media_type(api: Api) -> None:
    got = await api.send("PUT", "/tenants")
    assert got.status == 405
    assert got.headers["Allow"] == "GET, POST"
    got = await api.send("POST", "/tenants", b"name=x", "application/x-www-form-urlencoded")
    assert got.status == 415


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[1]",
        b'"text"',
        b'{"name": 12}',
        b'{"name": "a", "securityGroups": "g"}',
        b'{"name": "\xff"}',
        b'{"name": NaN}',
        b"[" * 100_000,
    ],
)
async def test_broken_json(api: Api, raw: bytes) -> None:
    got = await api.send("POST", "/tenants", raw)
    assert (got.status, got.body["code"]) == (400, "InvalidJson")
    assert got.body["message"].startswith("The supplied JSON could not be parsed")
    assert (await api.get("/tenants")).body["items"] == []


async def test_unknown_enum_member(api: Api) -> None:
    tenant = await api.tenant()
    body = {"name": "t", "limits": [line("vm", 1, "DOZEN")]}
    got = await api.post(f"/tenants/{tenant}/resource-tickets", body)
    assert (got.status, got.body["code"]) == (400, "InvalidJson")
    assert "DOZEN was not one of [GB, MB, KB, B, COUNT]" in got.body["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "request body may not be null (was null)"),
        ({}, "name may not be null (was null)"),
        ({"name": None}, "name may not be null (was null)"),
        ({"name": "1foo"}, 'name must match "^[a-zA-Z][a-zA-Z0-9-]*" (was 1foo)'),
        ({"name": "a" * 64}, f"name size must be between 1 and 63 (was {'a' * 64})"),
        ({"name": "a\n"}, 'name must match "^[a-zA-Z][a-zA-Z0-9-]*" (was a\n)'),
    ],
)
async def test_field_rules(api: Api, body: object, message: str) -> None:
    got = await api.post("/tenants", body)
    assert (got.status, got.body) == (
        400,
        {"code": "InvalidEntity", "message": message, "data": {}},
    )


async def test_several_violations_are_told_together(api: Api) -> None:
    spec = vm_spec(name="1", attachedDisks=[{"name": "d", "flavor": "f", "kind": "x"}, {}])
    got = await api.post("/projects/none/vms", spec)
    assert got.status == 400
    assert got.body["message"] == ", ".join(
        [
            'name must match "^[a-zA-Z][a-zA-Z0-9-]*" (was 1)',
            'attachedDisks[0].kind must match "ephemeral-disk|ephemeral" (was x)',
            "attachedDisks[1].name may not be null (was null)",
            "attachedDisks[1].flavor may not be null (was null)",
            "attachedDisks[1].kind may not be null (was null)",
        ]
    )


async def test_empty_body_to_an_unknown_id_is_400_not_404(api: Api) -> None:
    got = await api.send("POST", "/tenants/none/projects")
    assert (got.status, got.body["code"]) == (400, "InvalidEntity")
    got = await api.post(
        "/tenants/none/projects",
        {"name": "p", "resourceTicket": {"name": "t", "limits": [line("vm", 1, "COUNT")]}},
    )
    assert (got.status, got.body["code"], got.body["data"]) == (404, "NotFound", {"id": "none"})


async def test_unknown_members_are_ignored(api: Api) -> None:
    assert (await api.post("/tenants", {"name": "a", "colour": {"deep": [1]}})).status == 201


async def test_too_large_a_body(api: Api) -> None:
    got = await api.send("POST", "/tenants", b'{"name": "' + b"a" * 300_000 + b'"}')
    assert got.status == 413
    assert got.headers["X-API-VERSION"] == "1.0"


async def test_an_upload_to_a_route_that_is_not_built_is_read_to_its_end(api: Api) -> None:
    got = await api.send("POST", "/images", b"x" * 5_000_000, "multipart/form-data; boundary=b")
    assert (got.status, got.body["code"]) == (501, "NotBuiltYet")


async def test_unexpected_failures_name_only_the_request(
    api: Api, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(cloud.store, "get", broken)
    got = await api.get("/vms/x")
    assert (got.status, got.body["code"]) == (500, "InternalError")
    assert got.headers["REQUEST-ID"] in got.body["message"]
    assert "secret" not in got.body["message"]


async def test_status(api: Api) -> None:
    got = await api.get("/status")
    assert got.status == 200
    assert got.body["status"] == "READY"
    assert [it["component"] for it in got.body["components"]] == ["cloudStore", "chairman"]


# --- lists ----------------------------------------------------------------------------------------


async def test_lists_show_the_oldest_first_on_one_page(api: Api) -> None:
    made = [await api.tenant(f"t{number}") for number in range(5)]
    got = await api.get("/tenants?name=&")
    assert [item["id"] for item in got.body["items"]] == made
    assert (got.body["nextPageLink"], got.body["previousPageLink"]) == (None, None)
    assert [t["id"] for t in (await api.get("/tenants?name=t3")).body["items"]] == made[3:4]
    assert (await api.get("/tenants?name=T3")).body["items"] == []


async def test_pages_forth_and_back(api: Api) -> None:
    made = [await api.tenant(f"t{number}") for number in range(5)]
    page = (await api.get("/tenants?pageSize=2")).body
    assert page["previousPageLink"] is None
    seen, links = [t["id"] for t in page["items"]], []
    while page["nextPageLink"]:
        links.append(page["nextPageLink"])
        assert re.match(r"/tenants\?pageLink=[\w-]+$", links[-1])
        page = (await api.get(links[-1])).body
        seen += [t["id"] for t in page["items"]]
    assert seen == made
    assert len(links) == 2
    page = (await api.get(page["previousPageLink"])).body
    assert [t["id"] for t in page["items"]] == made[2:4]
    page = (await api.get(page["previousPageLink"])).body
    assert [t["id"] for t in page["items"]] == made[:2]
    assert page["previousPageLink"] is None


async def test_a_link_carries_its_filters_and_survives_deletions(api: Api) -> None:
    tenant = await api.tenant()
    await api.tenant()
    first = (await api.get(f"/tasks?entityId={tenant}&entityKind=TENANT&pageSize=1")).body
    assert first["nextPageLink"] is None
    many = [await api.tenant(f"t{number}") for number in range(4)]
    page = (await api.get("/tenants?pageSize=3")).body
    for gone in (tenant, page["items"][2]["id"]):
        assert (await api.delete(f"/tenants/{gone}")).status == 201
    rest = (await api.get(page["nextPageLink"])).body
    assert [t["id"] for t in rest["items"]] == many[1:]


@pytest.mark.parametrize("size", ["0", "101", "x", "-1", "1.5", "٣", "9999999999"])
async def test_page_sizes_out_of_range(api: Api, size: str) -> None:
    got = await api.get(f"/projects/none/vms?pageSize={size}")
    assert (got.status, got.body["code"]) == (400, "InvalidPageSize")


@pytest.mark.parametrize("link", ["x", "!!!", "W10", "WzFd", "%FF"])
async def test_unknown_page_links(api: Api, link: str) -> None:
    got = await api.get(f"/tenants?pageLink={link}")
    assert (got.status, got.body["code"]) == (404, "PageExpired")


async def test_a_link_of_another_list_has_expired(api: Api) -> None:
    for number in range(2):
        await api.tenant(f"t{number}")
    link = (await api.get("/tenants?pageSize=1")).body["nextPageLink"]
    got = await api.get(link.replace("/tenants", "/flavors"))
    assert (got.status, got.body["code"]) == (404, "PageExpired")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", {"items": [{"id": "x"}]}),
        ("/tenants", {"items": None}),
        ("/flavors", {"items": [], "colour": 1}),
        ("/tasks", {"items": [], "nextPageLink": 1}),
    ],
)
def test_the_check_of_answers_can_fail(path: str, body: object) -> None:
    check_answer("GET", path, 200, {"items": []})
    with pytest.raises(AssertionError):
        check_answer("GET", path, 200, body)
