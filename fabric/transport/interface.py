"""What the runtime needs of a transport.

A transport carries *messages* (decoded objects), so that a transport within one process need not
encode.  It vouches for the sender of what it delivers: with keys that is the node whose key opened
the connection; without (on this machine only) what the frame claims.  Sending never blocks and
never raises on the state of the network: a message that cannot go out is dropped and counted, as
the network itself might have done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from fabric.errors import FabricError
from fabric.machine import Message
from fabric.wire.tree import CellRecord

#: Takes the sender's node id and the message.
Deliver: TypeAlias = Callable[[int, Message], None]
#: Takes why a certificate is not accepted, and whether that is final for this peer.
OnTrouble: TypeAlias = Callable[[FabricError, bool], None]

#: Gives the record that a peer holds of a cell, if any.
RecordOf: TypeAlias = Callable[[int], CellRecord | None]


class Transport(Protocol):
    """One peer's way to the others."""

    @property
    def address(self) -> str:
        """The address others reach this peer at; known once started (port 0 is resolved)."""

    @property
    def connections(self) -> int:
        """Outgoing connections, formed or forming."""

    @property
    def waiting(self) -> int:
        """Messages that wait for a connection."""

    def on_trouble(self, tell: OnTrouble) -> None:
        """Tell ``tell`` of peers that do not trust us, or we them (with keys only)."""

    def vouch(self, boot_id: int, record_of: RecordOf) -> None:
        """Say in which life we sign, and where to look up the seats of a cell (with keys only)."""

    async def start(self, node_id: int, deliver: Deliver) -> None:
        """Bind, and deliver from now on. Raises ``AddressInUse`` or ``BadInput``."""

    def send(self, address: str, message: Message, node_id: int = 0) -> bool:
        """Send to whoever is bound to ``address``; false when it was dropped at once.

        With keys and a ``node_id``, only that node gets it.
        """

    async def close(self) -> None:
        """Stop delivering, let what was sent go out (for a bounded time), and close."""
