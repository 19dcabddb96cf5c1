"""The store as its users see it, on a node in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from fabric.cloudstore.client import (
    ROOT,
    Claim,
    CompareAndSet,
    Create,
    Debit,
    Delete,
    Document,
    Free,
    Kind,
    Require,
    RequireNone,
    StoreClient,
)
from fabric.cloudstore.keys import shard_of
from fabric.cloudstore.storage.node import StoreNode
from fabric.errors import (
    AlreadyExists,
    BadInput,
    Conflict,
    ContainerNotEmpty,
    FabricError,
    NameTaken,
    NotBuiltYet,
    NotFound,
    QuotaError,
)

KINDS = [
    Kind("tenant", indexes=("name",)),
    Kind("project", indexes=("tenantId", "name")),
    Kind("vm", indexes=("projectId", "tags")),
    Kind("flavor", indexes=("name",), root=True),
]


@pytest.fixture
async def store() -> AsyncIterator[StoreClient]:
    async with await StoreNode.in_memory() as node:
        yield node.client(KINDS)


async def test_ids_name_their_shard(store: StoreClient) -> None:
    tenant = store.new_home()
    project = store.new_id(tenant)
    assert shard_of(tenant, 128) == shard_of(project, 128) != 0
    assert shard_of(store.new_id(ROOT), 128) == 0
    assert len(project) == 36 and project[14] == "4"


async def test_a_document_lives(store: StoreClient) -> None:
    tenant = store.new_home()
    first = await store.transact(tenant, [Create("tenant", tenant, {"name": "a", "n": [1, 2.5]})])
    document = await store.get("tenant", tenant)
    assert document is not None and document.version == first.version
    assert document.body == {"name": "a", "n": [1, 2.5]}
    assert document.created_us == document.updated_us > 0
    second = await store.transact(
        tenant, [CompareAndSet("tenant", tenant, first.version, {"name": "b"})]
    )
    assert second.version > first.version
    with pytest.raises(Conflict):
        await store.transact(tenant, [Delete("tenant", tenant, first.version)])
    await store.transact(tenant, [Delete("tenant", tenant, second.version)])
    assert await store.get("tenant", tenant) is None
    with pytest.raises(NotFound):
        await store.transact(tenant, [Delete("tenant", tenant)])


async def test_all_or_nothing(store: StoreClient) -> None:
    tenant = store.new_home()
    await store.transact(tenant, [Create("tenant", tenant, {"name": "a"})])
    with pytest.raises(AlreadyExists):
        await store.transact(
            tenant,
            [
                Create("project", store.new_id(tenant), {"tenantId": tenant, "name": "p"}),
                Claim(tenant, "p", "owner"),
                Create("tenant", tenant, {}),
            ],
        )
    assert await store.list_all("project") == ()
    assert await store.name_owner(tenant, tenant, "p") is None


async def test_names_are_unique_in_their_scope(store: StoreClient) -> None:
    await store.transact(ROOT, [Claim("tenants", "acme", "1")])
    await store.transact(ROOT, [Claim("tenants", "acme", "1")])  # the same owner may repeat it
    with pytest.raises(NameTaken) as taken:
        await store.transact(ROOT, [Claim("tenants", "acme", "2")])
    assert taken.value.data["owner"] == "1" and taken.value.http_status == 400
    await store.transact(ROOT, [Claim("others", "acme", "2"), Free("tenants", "acme", "2")])
    assert await store.name_owner(ROOT, "tenants", "acme") == "1"
    await store.transact(ROOT, [Free("tenants", "acme", "1"), Claim("tenants", "acme", "2")])
    assert await store.name_owner(ROOT, "tenants", "acme") == "2"


async def test_quota_is_debited_and_given_back(store: StoreClient) -> None:
    tenant = store.new_home()
    await store.transact(tenant, [Create("tenant", tenant, {"limits": {"vm": 2}})])
    await store.transact(tenant, [Debit("tenant", tenant, {"vm": 2, "free": 9})])
    with pytest.raises(QuotaError) as refused:
        await store.transact(tenant, [Debit("tenant", tenant, {"free": 1, "vm": 1})])
    assert refused.value.data == {
        "kind": "tenant",
        "id": tenant,
        "key": "vm",
        "limit": "2",
        "usage": "2",
        "newUsage": "3",
    }
    await store.transact(tenant, [Debit("tenant", tenant, {"vm": -1})])
    document = await store.get("tenant", tenant)
    assert document is not None and document.body["usage"] == {"vm": 1, "free": 9}


async def test_conditions(store: StoreClient) -> None:
    tenant = store.new_home()
    project = store.new_id(tenant)
    made = await store.transact(tenant, [Create("tenant", tenant, {"name": "a"})])
    await store.transact(
        tenant, [Require("tenant", tenant), Create("project", project, {"tenantId": tenant})]
    )
    leave: list[Any] = [RequireNone("project", "tenantId", tenant), Delete("tenant", tenant)]
    with pytest.raises(ContainerNotEmpty) as full:
        await store.transact(tenant, leave)
    assert full.value.data == {"kind": "project", "id": project}
    # a transaction sees its own writes: the index entry is gone by then
    await store.transact(tenant, [Delete("project", project), *leave])
    with pytest.raises(NotFound):
        await store.transact(tenant, [Require("tenant", tenant, made.version)])


async def test_lists_and_indexes(store: StoreClient) -> None:
    tenants = sorted((store.new_home() for _ in range(5)), key=lambda t: t[:3])
    for tenant in tenants:
        ops = [
            Create("vm", store.new_id(tenant), {"projectId": f"p{i % 2}", "tags": ["x", f"t{i}"]})
            for i in range(4)
        ]
        await store.transact(tenant, ops)
    everything = await store.list_all("vm")
    assert len(everything) == 20
    pages: list[Document] = []
    cursor: str | None = None
    while True:
        page = await store.list("vm", limit=3, cursor=cursor)
        pages += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert tuple(pages) == everything
    assert len(await store.list_all("vm", where=("projectId", "p1"))) == 10
    assert len(await store.list_all("vm", home=tenants[0], where=("tags", "t3"))) >= 1
    assert len((await store.list("vm", prefix=everything[7].id)).items) == 1
    vm = everything[0]
    await store.transact(vm.id, [CompareAndSet("vm", vm.id, vm.version, {"tags": ["new"]})])
    assert len(await store.list_all("vm", where=("tags", "x"))) == 19
    assert [v.id for v in await store.list_all("vm", where=("tags", "new"))] == [vm.id]


async def test_a_key_makes_it_happen_once(store: StoreClient) -> None:
    tenant = store.new_home()
    await store.transact(tenant, [Create("tenant", tenant, {})])
    debit = [Debit("tenant", tenant, {"vm": 1})]
    first = await store.transact(tenant, debit, key="k")
    assert await store.transact(tenant, debit, key="k") == first
    await store.transact(tenant, debit, key="other")
    document = await store.get("tenant", tenant)
    assert document is not None and document.body["usage"] == {"vm": 2}


async def test_results_are_bounded_per_home(
    store: StoreClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fabric.cloudstore.results.MAX_RESULTS", 3)
    tenant = store.new_home()
    await store.transact(tenant, [Create("tenant", tenant, {})])
    for key in "abcda":
        await store.transact(tenant, [Debit("tenant", tenant, {"n": 1})], key=key)
    await store.transact(tenant, [Debit("tenant", tenant, {"n": 1})], key="d")
    document = await store.get("tenant", tenant)
    assert document is not None and document.body["usage"] == {"n": 5}  # a was forgotten, d not


async def test_a_failure_is_not_remembered(store: StoreClient) -> None:
    tenant = store.new_home()
    with pytest.raises(NotFound):
        await store.transact(tenant, [Debit("tenant", tenant, {"n": 1})], key="k")
    await store.transact(tenant, [Create("tenant", tenant, {})])
    await store.transact(tenant, [Debit("tenant", tenant, {"n": 1})], key="k")


async def test_bad_input(store: StoreClient) -> None:
    tenant, other = store.new_home(), store.new_home()
    while other[:3] == tenant[:3]:
        other = store.new_home()
    bad: list[tuple[str, list[Any]]] = [
        (tenant, []),
        ("nonsense", [Delete("tenant", tenant)]),
        (tenant, [Delete("tenant", other)]),
        (tenant, [Delete("flavor", "f")]),
        (tenant, [Delete("unknown", tenant)]),
        (tenant, [Delete("tenant", "")]),
        (tenant, [Delete("tenant", "x" * 200)]),
        (tenant, [Create("tenant", tenant, {"x": "y" * 40000})]),
        (tenant, [Create("tenant", tenant, {"x": object()})]),
        (tenant, [Create("tenant", tenant, {"name": 7})]),
        (tenant, [Create("tenant", tenant, {"name": "n" * 300})]),
        (tenant, [Claim("s", "\ud800", "o")]),
        (tenant, [Debit("tenant", tenant, {"vm": 1.5})]),  # type: ignore[dict-item]
        (tenant, [RequireNone("project", "unindexed", "x")]),
        (tenant, ["nonsense"]),
    ]
    for home, ops in bad:
        with pytest.raises(BadInput):
            await store.transact(home, ops)
    for call in (
        store.list("vm", limit=0),
        store.list("vm", cursor="bad"),
        store.list("vm", where=("nope", "x")),
        store.get("unknown", tenant),
    ):
        with pytest.raises(BadInput):
            await call
    assert await store.get("vm", "no id of ours") is None
    assert await store.get("vm", "fff" + tenant[3:]) is None


async def test_what_is_not_built_says_so(store: StoreClient) -> None:
    with pytest.raises(NotBuiltYet) as error:
        await store.watch("vm")
    assert isinstance(error.value, FabricError) and error.value.http_status == 501
