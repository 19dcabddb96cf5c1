"""One request through the logs of all that it touches: front, worker, entry, owner, host, agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from fabric import Settings
from fabric.ids import format_id
from fabric.runtime.tracing import TRACE
from nodes.demo.rest import RestClient, create_project
from nodes.service import Listen
from nodes.up import UpOptions, up

VM: dict[str, Any] = {
    "name": "vm",
    "flavor": "small",
    "sourceImageId": "image-of-nobody-s-business",
    "attachedDisks": [{"name": "boot", "kind": "ephemeral", "flavor": "boot", "bootDisk": True}],
}


class _Collect(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        trace = getattr(record, "trace", None)
        fields = getattr(record, "fields", {})
        self.lines.append(
            (TRACE.get() if trace is None else trace, record.name, record.getMessage(), fields)
        )


@pytest.fixture
def collected() -> Iterator[_Collect]:
    root, handler = logging.getLogger(), _Collect()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


async def test_a_vm_is_followed_from_the_front_to_the_agent(collected: _Collect) -> None:
    small = Settings(leaf_min=2, leaf_max=3, inner_min=2, inner_max=3)
    options = UpOptions(5, accept_any_image=True, listen=Listen(port=0), settings=small)
    async with up(options) as ready, RestClient(ready.url) as rest:
        project = await create_project(rest)
        async with (
            aiohttp.ClientSession(ready.url) as session,
            session.post(f"/projects/{project}/vms", json=VM) as response,
        ):
            trace = response.headers["REQUEST-ID"]
            task = await response.json()
        async with asyncio.timeout(30):
            while task["state"] not in ("COMPLETED", "ERROR"):
                await asyncio.sleep(0.02)
                task = await rest.get(f"/tasks/{task['id']}")
        vm = await rest.get(f"/vms/{task['entity']['id']}")
        peers = {peer.contact.address: format_id(peer.contact.node_id) for peer in ready.hosts}
        entry = format_id(ready.hosts[0].contact.node_id)
    ours = [line for line in collected.lines if line[0] == trace]
    texts = [text for _, _, text, _ in ours]
    assert any(text.startswith(f"POST /projects/{project}/vms: 201") for text in texts)
    assert f"task {task['id']}: COMPLETED" in texts
    told = [(fields.get("peer"), fields.get("event"), fields.get("body") or fields.get("type"))
            for _, name, _, fields in ours if name == "fabric.requests"]
    host = peers[vm["host"]]
    assert (host, "received", "Reserve") in told
    assert (host, "sent", "Reserved") in told
    assert (host, "received", "CreateVm") in told
    assert any(peer == entry and kind == "Place" for peer, _, kind in told)
    assert any(text.startswith("PlaceAsk: placed on " + host) for text in texts)
    assert any("done after" in text for _, name, text, fields in ours
               if name == "fabric.requests" and fields.get("peer") == host)
    assert not any("image-of-nobody" in str(line) for line in collected.lines)
