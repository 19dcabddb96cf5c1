"""The ZAP handler: libzmq asks it, for each new connection, whether that key may come in.

It must be bound before the socket that it guards: CURVE without a handler lets every key in.  It
runs on the peer's own loop (an unanswered question only makes that connection wait) and answers
from a table.  RFC 27/ZAP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import zmq

from fabric.counters import Counters

ENDPOINT: Final = "inproc://zeromq.zap.01"
#: Sockets without a domain are not asked about at all.
DOMAIN: Final = b"fabric"


class Zap:
    """Answers for the sockets of ``context``. ``user_of`` maps a raw key to a User-Id."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        user_of: Callable[[bytes], str | None],
        counters: Counters,
    ) -> None:
        self._user_of = user_of
        self._counters = counters
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ENDPOINT)
        self._loop = asyncio.get_running_loop()
        self._fd = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._fd, self._drain)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        self._socket.close()

    def _drain(self) -> None:
        """Answer all questions; each send may eat the descriptor's edge, so go on to ``EAGAIN``."""
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._socket.send_multipart(self._answer(parts), zmq.NOBLOCK)

    def _answer(self, parts: list[bytes]) -> list[bytes]:
        # version, request id, domain, address, routing id, mechanism, credentials
        request_id = parts[1] if len(parts) > 1 else b""
        user = None
        if len(parts) == 7 and parts[2] == DOMAIN and parts[5] == b"CURVE":
            user = self._user_of(parts[6])
        if user is None:
            self._counters.count("refused_keys")
            return [b"1.0", request_id, b"400", b"unknown key", b"", b""]
        return [b"1.0", request_id, b"200", b"", user.encode(), b""]
