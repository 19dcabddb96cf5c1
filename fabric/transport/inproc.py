"""Messages between peers of one process and one event loop: references, no sockets.

Addresses are ``inproc://name``.  Messages are delivered by the loop in batches, never from within
``send``, so a machine is never entered twice.  With ``encode=True`` each one goes through the wire
codec, which finds what a shared reference would hide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from fabric.counters import Counters
from fabric.errors import AddressInUse, BadFrame, BadInput
from fabric.limits import DRAIN_BUDGET, INPROC_QUEUE, MAX_ADDRESS
from fabric.machine import Message
from fabric.transport.interface import Deliver, OnTrouble, RecordOf
from fabric.wire.codec import decode_frame, encode_frame

SCHEME: Final = "inproc://"

_BOUND: dict[tuple[asyncio.AbstractEventLoop, str], InprocTransport] = {}


class InprocTransport:
    """One peer's inbox, found by its address by all others on the same loop."""

    def __init__(self, address: str, counters: Counters, *, encode: bool = False) -> None:
        named = address.startswith(SCHEME) and address != SCHEME
        if not named or len(address) > MAX_ADDRESS:
            raise BadInput(
                f"address {address[:MAX_ADDRESS]!r} must look like inproc://name",
                {"field": "address", "value": address[:MAX_ADDRESS]},
            )
        self._address = address
        self._counters = counters
        self._encode = encode
        self._inbox: deque[tuple[int, Message]] = deque()
        self._scheduled = False
        self._deliver: Deliver | None = None
        self._node_id = 0

    @property
    def address(self) -> str:
        return self._address

    def on_trouble(self, tell: OnTrouble) -> None:
        """Within one process nobody needs a certificate."""

    def vouch(self, boot_id: int, record_of: RecordOf) -> None:
        """Within one process nothing is signed."""

    async def start(self, node_id: int, deliver: Deliver) -> None:
        self._loop = asyncio.get_running_loop()
        key = (self._loop, self._address)
        if key in _BOUND:
            raise AddressInUse(
                f"address {self._address} is in use in this process",
                {"field": "address", "value": self._address},
            )
        _BOUND[key] = self
        self._node_id = node_id
        self._deliver = deliver

    @property
    def connections(self) -> int:
        return 0

    @property
    def waiting(self) -> int:
        return len(self._inbox)

    def send(self, address: str, message: Message, node_id: int = 0) -> bool:
        if self._deliver is None:
            return False
        target = _BOUND.get((self._loop, address))
        if target is None:
            self._counters.count("dropped_unreachable")
            return False
        if self._encode:
            try:
                message = decode_frame(encode_frame(self._node_id, message)).message
            except BadFrame:
                self._counters.count("oversize_frames")
                return False
        return target._put(self._node_id, message)

    async def close(self) -> None:
        if self._deliver is not None:
            self._deliver = None
            del _BOUND[self._loop, self._address]
            self._inbox.clear()

    def _put(self, sender: int, message: Message) -> bool:
        if len(self._inbox) >= INPROC_QUEUE:
            self._counters.count("dropped_full")
            return False
        self._inbox.append((sender, message))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)
        return True

    def _drain(self) -> None:
        inbox = self._inbox
        try:
            for _ in range(min(len(inbox), DRAIN_BUDGET)):
                if self._deliver is None:
                    return
                self._deliver(*inbox.popleft())
        finally:
            # what a delivery put here, or the budget left over, comes in the next turn
            self._scheduled = bool(inbox)
            if self._scheduled:
                self._loop.call_soon(self._drain)
