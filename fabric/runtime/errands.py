"""Errands: requests to the coordinator and to the hypervisor, each a task until its answer is in.

The machine goes on meanwhile; the answer comes back to it as an event.  A client that raises what
it should not is a defect: it is counted, logged with its traceback, and the machine hears that
there is no answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from fabric.coordination.interface import (
    CoordinatorAnswer,
    CoordinatorNews,
    CoordinatorRequest,
    Lost,
)
from fabric.counters import Counters
from fabric.errors import FabricError, MissingDependency
from fabric.machine import Coordinated, Driven, Event
from fabric.placement.host import HostDriver
from fabric.runtime.clock import Clock
from fabric.runtime.tracing import TRACE

_LOG = logging.getLogger("fabric.runtime")

#: How long finishing waits for requests to the coordinator and the hypervisor.
_FINISH_S: Final = 1.0


class Coordinator(Protocol):
    """The edge to a coordinator: one answer per request."""

    def listen(self, tell: Callable[[CoordinatorNews], None]) -> None:
        """Have ``tell`` called, on the loop, with news that nobody asked for."""

    async def ask(self, request: CoordinatorRequest) -> CoordinatorAnswer: ...

    async def close(self) -> None: ...


class Errands:
    """What is under way. ``handle`` takes the answers, ``ended`` hears how long a call took."""

    def __init__(
        self,
        coordinator: Coordinator | None,
        driver: HostDriver | None,
        counters: Counters,
        clock: Clock,
        handle: Callable[[Event, str], None],
        ended: Callable[[str, object, str, int, object], None],
    ) -> None:
        self._coordinator = coordinator
        self._driver = driver
        self._counters = counters
        self._clock = clock
        self._handle = handle
        self._ended = ended
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def listen(self) -> None:
        """Hand on what the coordinator tells of its own accord."""
        if self._coordinator is not None:
            self._coordinator.listen(lambda news: self._handle(Coordinated(0, news), ""))

    def coordinate(self, request: CoordinatorRequest, token: int) -> None:
        """Ask the coordinator."""
        self._spawn(self._coordinate(request, token))

    def drive(self, call: Any, token: int, trace: str) -> None:
        """Have the hypervisor do ``call``."""
        self._spawn(self._drive(call, token, trace))

    async def finish(self) -> None:
        """Wait a moment for what is under way, then give it up."""
        if self._tasks:  # what was put out last, such as giving the chair back, still happens
            await asyncio.wait(self._tasks, timeout=_FINISH_S)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close both clients."""
        if self._coordinator is not None:
            await self._coordinator.close()
        if self._driver is not None:
            await self._driver.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _coordinate(self, request: CoordinatorRequest, token: int) -> None:
        answer: CoordinatorAnswer
        began = self._clock()
        if self._coordinator is None:
            answer = Lost("no coordinator is configured")
        else:
            try:
                answer = await self._coordinator.ask(request)
            except FabricError as error:
                answer = Lost(error.message)
            except Exception as error:
                self._counters.count("coordinator_errors")
                _LOG.exception("the coordinator client raised")
                answer = Lost(type(error).__name__)
        self._counters.time("coordinator", type(request).__name__, self._clock() - began)
        self._handle(Coordinated(token, answer), "")

    async def _drive(self, call: Any, token: int, trace: str) -> None:
        TRACE.set(trace)  # of this task alone: the driver's own lines carry it too
        result: Any = None
        code: str | None = None
        began = self._clock()
        try:
            if self._driver is None:
                raise MissingDependency("this peer has no hypervisor driver")
            result = await self._driver.execute(call)
        except FabricError as error:
            code = error.code
        except Exception:
            self._counters.count("hypervisor_errors")
            _LOG.exception("the hypervisor driver raised")
            code = FabricError.code
        self._ended("hypervisor", call, trace, began, code or "done")
        self._handle(Driven(token, result, code), trace)
