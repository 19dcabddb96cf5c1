"""``GET /metrics`` of the front: by route and status, whatever clients make up."""

from __future__ import annotations

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from nodes.cloud.access import Cloud
from nodes.front.server import Front
from nodes.front.status import Component


async def test_requests_are_measured_by_route(cloud: Cloud) -> None:
    async def status() -> list[Component]:
        return []

    async with TestClient(TestServer(Front(cloud, status).application())) as client:
        for method, path in (
            ("GET", "/vms/no-such-vm"), ("GET", "/vms/nor-this"), ("GET", "/made/up"),
            ("BREW", "/vms/tea"), ("GET", "/status"),
        ):
            async with client.request(method, path):
                pass
        async with client.get("/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await answer.text()
    counts = {
        (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fabric_http_request_seconds_count"
    }
    assert counts["GET", "/vms/{id}", "404"] == 2
    assert counts["GET", "/status", "200"] == 1
    assert counts["other", "other", "404"] == 1
    assert not any("tea" in label or "BREW" in label for key in counts for label in key)
