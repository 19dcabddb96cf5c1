"""The real front over the store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp.test_utils import TestClient, TestServer

from fabric.cloudstore.storage.node import StoreNode
from nodes.cloud.access import KINDS, AnyImage, Cloud
from nodes.front.server import Front
from nodes.front.status import READY, Component, Instance
from tests.contract.support import Api, Clock


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    async with await StoreNode.in_memory() as node:
        yield Cloud(node.client(KINDS), Clock(), AnyImage())


@pytest.fixture
async def api(cloud: Cloud) -> AsyncIterator[Api]:
    async def status() -> list[Component]:
        return [
            Component("cloudStore", (Instance("store", READY),)),
            Component("chairman", (Instance("peer", READY),)),
        ]

    server = TestServer(Front(cloud, status).application())
    async with TestClient(server) as client:
        yield Api(client)
