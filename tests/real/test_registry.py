"""Registered services on an embedded coordinator, in memory, and on a real ZooKeeper."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kazoo.client import KazooClient

import fabric
from fabric.coordination.memory import MemoryCoordinator
from fabric.coordination.service_nodes import NodeServices
from fabric.errors import BadInput, Conflict, ForeignData
from nodes.demo.zookeepers import LocalEnsemble, missing
from tests.real.processes import environment, result_of

PATIENCE_S = 60.0
#: Registers, tells its number once it serves, and serves until it is killed.
_CHILD = """
import asyncio, sys
import fabric

async def main():
    async with fabric.open_registry(sys.argv[1]) as registry:
        async with registry.register("scheduler", "tcp://child", passive=True) as me:
            print("registered", flush=True)
            await me.until_active()
            print("active", me.number, flush=True)
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=["embedded", "memory", "zookeeper"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "zookeeper":
        ensemble: LocalEnsemble = request.getfixturevalue("zookeeper")
        return ensemble.address(f"/registry/{uuid4().hex}")
    return tmp_path if request.param == "embedded" else MemoryCoordinator()


@contextlib.asynccontextmanager
async def registries(where: Any, number: int) -> AsyncIterator[list[fabric.Registry]]:
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):
        yield [
            await stack.enter_async_context(fabric.open_registry(where)) for _ in range(number)
        ]


async def seen(
    registry: fabric.Registry, wanted: Callable[[tuple[fabric.Instance, ...]], bool]
) -> tuple[fabric.Instance, ...]:
    """Watch the scheduler until it is as ``wanted``."""
    async for instances in registry.watch("scheduler"):
        if wanted(instances):
            return instances
    raise AssertionError("a watch never ends by itself")


async def test_active_active_instances_all_serve_and_are_watched(where: Any) -> None:
    async with registries(where, 2) as (one, two):
        watching = asyncio.create_task(seen(two, lambda found: len(found) == 2))
        async with (
            one.register("scheduler", "tcp://a", details=[("zone", "z1")]) as a,
            two.register("scheduler", "tcp://b") as b,
        ):
            assert a.active
            assert b.active
            found = await watching
            assert [each.address for each in found] == ["tcp://a", "tcp://b"]
            assert found[0].details == (("zone", "z1"),)
            assert all(each.active for each in found)
            assert a.number < b.number
            assert await one.services() == ("scheduler",)
        assert await seen(one, lambda found: not found) == ()
        assert await one.services() == ()


async def test_the_next_passive_instance_takes_over(where: Any) -> None:
    async with (
        registries(where, 3) as (one, two, three), two.register("other", "tcp://x"),
        contextlib.AsyncExitStack() as first,
    ):
        a = await first.enter_async_context(
            one.register("scheduler", "tcp://a", passive=True)
        )
        async with two.register("scheduler", "tcp://b", passive=True) as b:
            assert (a.active, b.active) == (True, False)
            found = await seen(three, lambda found: len(found) == 2)
            assert [each.active for each in found] == [True, False]
            await first.aclose()
            assert not a.active
            await b.until_active()
            assert b.number > a.number
            found = await seen(three, lambda found: len(found) == 1)
            assert (found[0].address, found[0].active) == ("tcp://b", True)
        await b.until_inactive()


async def test_what_cannot_be_registered_is_refused(where: Any) -> None:
    async with registries(where, 1) as (registry,):
        for name in ("", "UPPER", "a/b", "x" * 100):
            with pytest.raises(BadInput, match="a service's name"):
                registry.register(name, "tcp://a")
            with pytest.raises(BadInput, match="a service's name"):
                await registry.instances(name)
        for address in ("", "x" * 1000):
            with pytest.raises(BadInput, match="address"):
                registry.register("scheduler", address)
        with pytest.raises(BadInput, match="more than 16 details"):
            registry.register("scheduler", "tcp://a", details=[("k", "v")] * 17)
        async with registry.register("scheduler", "tcp://a"):
            with pytest.raises(Conflict, match="active/active already"):
                async with registry.register("scheduler", "tcp://b", passive=True):
                    pass


@contextlib.contextmanager
def child(where: str) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, where], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "registered\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_process_that_dies_or_freezes_is_taken_over_from(
    where: Any, blow: signal.Signals
) -> None:
    if isinstance(where, MemoryCoordinator):
        pytest.skip("memory is not shared between processes")
    with child(str(where)) as process:
        _, number = process.stdout.readline().split()
        async with (
            registries(where, 1) as (registry,),
            registry.register("scheduler", "tcp://heir", passive=True) as heir,
        ):
            assert not heir.active
            listed = await asyncio.to_thread(result_of, "services", "--coordinator", str(where))
            states = [(each["address"], each["active"]) for each in listed["services"]]
            assert states == [("tcp://child", True), ("tcp://heir", False)]
            process.send_signal(blow)
            await heir.until_active()
            assert heir.number > int(number)
        process.send_signal(signal.SIGCONT)


@pytest.mark.skipif(bool(missing()), reason=f"WITHOUT REAL ZOOKEEPER: {missing()}")
async def test_who_cannot_reach_zookeeper_stops_serving_and_comes_back(tmp_path: Path) -> None:
    with LocalEnsemble(tmp_path, size=1) as ensemble:
        async with (
            registries(ensemble.address(), 2) as (one, two),
            one.register("scheduler", "tcp://a", passive=True) as a,
        ):
            number = a.number
            watch = two.watch("scheduler")
            assert [each.number for each in await anext(watch)] == [number]
            ensemble.servers[0].pause()
            await a.until_inactive()
            ensemble.servers[0].resume()
            await a.until_active()
            assert a.number == number
            expire(one, ensemble)
            await a.until_inactive()
            await a.until_active()
            assert a.number > number
            async for instances in watch:  # nothing was told of the outage: it is no change
                if [each.number for each in instances] == [a.number]:
                    break
                assert instances == ()


def expire(registry: fabric.Registry, ensemble: LocalEnsemble) -> None:
    """End the registry's session at the server, as if it had timed out."""
    services = registry._services
    assert isinstance(services, NodeServices)
    assert services._session._client is not None
    double = KazooClient(
        ensemble.servers[0].address, client_id=services._session._client.client_id
    )
    double.start()
    double.stop()
    double.close()


async def test_a_record_written_by_hand_is_named(zookeeper: LocalEnsemble) -> None:
    base = f"/registry/{uuid4().hex}"
    async with registries(zookeeper.address(base), 1) as (registry,):
        client = KazooClient(zookeeper.servers[0].address)
        client.start()
        client.create(f"{base}/service/scheduler/mine", json.dumps({}).encode(), makepath=True)
        client.stop()
        client.close()
        with pytest.raises(ForeignData, match=f"{base}/service/scheduler/mine is no service's"):
            await registry.instances("scheduler")
