"""Requests between any two peers (or a command-line client and a peer), and their answers.

Type ids: 100-109.  Whoever wants something done by a peer sends a :class:`Request` that embeds the
message saying what; the peer answers with one :class:`Response` to ``reply_to``.  A local caller
(``fabric.open``) hands the same embedded message in as a ``LocalCall``, so there is one code path.
"""

from __future__ import annotations

from dataclasses import dataclass

from fabric.machine import Contact
from fabric.wire.codec import Embedded, Int, LongText, Text, register


@dataclass(slots=True)
class Request:
    """``request_id`` is the asker's; ``deadline_ms`` is how long an answer is of use.

    ``trace`` is the id under which the logs of all peers follow what this is a part of.
    """

    request_id: Int
    reply_to: Contact
    deadline_ms: Int
    body: Embedded
    trace: Text = ""


@dataclass(slots=True)
class Response:
    """The answer: ``body`` is a message, or :class:`Failure`."""

    request_id: Int
    body: Embedded


@dataclass(slots=True)
class Failure:
    """A coded error, rebuilt on the other side by ``errors.error_from_code``."""

    code: Text
    message: LongText
    data: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Done:
    """It is done, and there is nothing more to say."""


register(100, Request)
register(101, Response)
register(102, Failure)
register(103, Done)
