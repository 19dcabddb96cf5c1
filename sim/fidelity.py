"""Fidelity runs encode and decode every hop, as the wire does.

Scale runs hand messages on by reference.  Here each one goes through CBOR, so that a message that
does not fit the wire, or arrives as something else, is found by the simulator.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import cbor2

from fabric.machine import Message
from fabric.wire.codec import decode_frame, encode_frame

if TYPE_CHECKING:
    from sim.engine import Engine, Node


#: What a peer of the next version adds to its messages.
UNKNOWN: Final = "of the next version"


class Fidelity:
    """Encodes and decodes every hop, as the wire does, and sees that nothing is lost by it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        #: What was put on its way to a living node, as ``fabric.counters`` counts it.
        self.sent: Counter[type[Any]] = Counter()
        #: Of frames between different nodes: what one sends to itself is never on a wire.
        self.bytes = 0
        #: Indexes of nodes whose messages end with a field that others do not know yet.
        self.newer: list[int] = []
        #: Indexes of nodes whose frames carry the number of the version before.
        self.older: list[int] = []

    def hop(self, sender: Node, target: Node, message: Message, mark: int) -> Message:
        """Return ``message`` as it arrives at the other end of a wire."""
        data = encode_frame(sender.node_id, message)
        self.sent[message.__class__] += 1
        if target is not sender:
            self.bytes += len(data)
        if sender.index in self.newer:
            data = cbor2.dumps([*cbor2.loads(data), UNKNOWN])
        if sender.index in self.older:
            type_id, version, *rest = cbor2.loads(data)
            data = cbor2.dumps([type_id, version - 1, *rest])
        decoded = decode_frame(data).message
        again = self._engine.marks.of(decoded, sender.node_id)
        if again != mark:
            self._engine.on_violation("wire-changes-message", (sender,), type(message).__qualname__)
        return decoded
