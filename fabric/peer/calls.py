"""Whom to answer: a caller in this process, or a peer that sent a ``Request``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fabric.errors import FabricError, error_from_code
from fabric.machine import Contact, Message, Sink, Write
from fabric.wire.common import Failure, Response


class Caller(NamedTuple):
    """How to answer one call: ``reply_to`` is ``None`` for a caller in this process.

    ``trace`` goes along with what is done for the caller.
    """

    call_id: int
    reply_to: Contact | None = None
    trace: str = ""

    def respond(self, out: Sink, answer: Message | FabricError) -> None:
        """Answer with a message or an error."""
        if self.reply_to is None:
            if isinstance(answer, Failure):
                answer = error_from_code(answer.code, answer.message, dict(answer.data))
            out.reply(self.call_id, answer)
        else:
            out.send(self.reply_to, Response(self.call_id, as_message(answer)))

    def promise(self, out: Sink, writes: Sequence[Write], answer: Message) -> None:
        """Answer a remote caller once ``writes`` are durable."""
        if self.reply_to is None:
            raise TypeError("a local caller is answered through a message to oneself")
        out.promise(writes, self.reply_to, Response(self.call_id, answer))


def as_message(answer: Message | FabricError) -> Message:
    """Return ``answer`` as it travels: errors become :class:`Failure`."""
    if isinstance(answer, FabricError):
        return Failure(answer.code, answer.message[:4000], tuple(sorted(answer.data.items())))
    return answer
