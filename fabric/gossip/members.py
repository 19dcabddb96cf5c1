"""The member table of one cell, and how two accounts of a member are merged.

Written by :class:`~fabric.gossip.cell.CellGossip` alone; the tree and placement read it.

Merging is a join over two independent orders, so it does not matter in which order news arrive:

* status: higher incarnation wins; within one incarnation ALIVE < SUSPECT < DEAD < LEFT.
* load: (incarnation >> 16, seq), so that a new boot (or a new owner's term) starts over.

*Hearsay.*  In a leaf cell a member alone says which life it lives and where.  What others tell of
its life is believed only until it has spoken itself (:attr:`Member.sworn`); afterwards such talk
has it asked, no more.  What they tell of its address is never believed: that comes from the record
or from itself.  So nobody can talk a healthy member away by inventing a later life or another
address for it.  Inner cells have no such rule: there a new speaker is elected by the cell's seats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fabric.machine import Contact
from fabric.stream import mix
from fabric.wire.gossip import ALIVE, DEAD, SUSPECT, News

#: Bits of an incarnation that count refutations; above them stands the boot id or term.
REFUTATION_BITS: Final = 16

#: Hearsay may raise the count of refutations by so much at once: nobody heard less often than that
#: is worth listening to, and whoever invents counts cannot use them up with a few words.
MAX_HEARSAY_STEP: Final = 64

NOBODY: Final = Contact(0, "")


class Member:
    """One row: the newest news, when its load was heard (µs), and a suspicion if there is one.

    Who speaks and how it is stands in the news; it is kept beside them, since each probe reads it.
    """

    __slots__ = (
        "accusers", "asked", "contact", "heard_at", "key", "left", "mark", "marked", "news",
        "node_id", "observer", "state", "suspicion", "sworn",
    )  # fmt: skip

    def __init__(self, key: int, news: News, observer: bool) -> None:
        self.take(news)
        self.key = key
        self.observer = observer
        self.heard_at = 0
        self.suspicion: Suspicion | None = None
        self.accusers: Sequence[int] = ()  # on whose word it was held for dead
        self.left = 0  # how often the news still go out
        self.mark = 0  # this row's part of the table's digest
        self.marked = False  # whether that is up to date
        self.sworn = False  # whether it told us itself which life it lives
        self.asked = 0  # the round in which it was asked whether it lives another

    def take(self, news: News) -> None:
        """Hold ``news`` from now on."""
        self.news = news
        self.contact = news.contact
        self.node_id = news.contact.node_id  # of who speaks; 0: nobody
        self.state = news.state

    def remark(self) -> int:
        """Compute :attr:`mark` anew. Rows of which nothing was heard count as absent."""
        news = self.news
        self.marked = True
        self.mark = (
            mix(
                mix(news.key, news.incarnation),
                news.seq * 8 + news.state * 2 + (news.summary is not None),
            )
            if news.incarnation
            else 0
        )
        return self.mark

    @property
    def alive(self) -> bool:
        """Alive as far as known: suspects count until they are removed."""
        return self.state <= SUSPECT and self.node_id != 0


class Suspicion:
    """An open case against one incarnation of a member: since when, and who are the witnesses."""

    __slots__ = ("incarnation", "since", "told_at", "witnesses")

    def __init__(self, incarnation: int, since: int) -> None:
        self.incarnation = incarnation
        self.since = since
        self.told_at = 0  # when we told others that we are a witness
        self.witnesses: list[int] = []

    def testify(self, witness: int) -> bool:
        """Count ``witness`` once. Returns whether it was new."""
        if witness in self.witnesses:
            return False
        self.witnesses.append(witness)
        return True


def unheard(key: int, contact: Contact) -> News:
    """Return the news of a member of which nothing was heard yet."""
    return News(key, 0, ALIVE, contact, 0, None)


def relocated(news: News, contact: Contact) -> News:
    """Return ``news`` of a member that is to be found at another address."""
    return News(news.key, news.incarnation, news.state, contact, news.seq, news.summary)


def merge_news(old: News, new: News) -> News:
    """Return the join of both; ``old`` itself when ``new`` adds nothing."""
    old_inc, new_inc = old.incarnation, new.incarnation
    status_newer = new_inc > old_inc or (new_inc == old_inc and new.state > old.state)
    old_life, new_life = old_inc >> REFUTATION_BITS, new_inc >> REFUTATION_BITS
    load_newer = new.summary is not None and (
        new_life > old_life
        or (
            new_life == old_life
            # at equal numbers whoever knows the load teaches who does not: a suspicion of a new
            # life may have come first, from somebody who told a number and no load
            and (new.seq > old.seq or (new.seq == old.seq and old.summary is None))
        )
    )
    if not status_newer and not load_newer:
        return old
    status = new if status_newer else old
    if load_newer:
        load = new
    elif status_newer and new_life > old_life:
        load = new  # a new life: what the old one had is void
    else:
        load = old
    if load is new and (status is new or same_status(old, new)):
        return new  # shared by all who learn it: one object in a cell, not one in each member
    return News(old.key, status.incarnation, status.state, status.contact, load.seq, load.summary)


def hearsay(old: News, told: News) -> News | None:
    """Return what to make of ``told`` by another than the host it is about; ``None``: nothing."""
    if told.incarnation - old.incarnation > MAX_HEARSAY_STEP and not newer_life(
        told.incarnation, old.incarnation
    ):
        return None
    if told.contact == old.contact:
        return told
    return relocated(told, old.contact)


def newer_life(a: int, b: int) -> bool:
    """Whether incarnation ``a`` is of a later life (boot, term) than ``b``."""
    return a >> REFUTATION_BITS > b >> REFUTATION_BITS


def sworn_in(old: News, told: News) -> News:
    """Return the join of hearsay and a host's own word: its own word, whatever the numbers."""
    if newer_life(old.incarnation, told.incarnation):
        return told
    return merge_news(old, told)


def same_status(a: News, b: News) -> bool:
    """Whether both say the same of where the member is and how it is."""
    return a.incarnation == b.incarnation and a.state == b.state and a.contact == b.contact


def lives(news: News) -> bool:
    """Whether somebody speaks for the member, who is under no suspicion."""
    return news.state == ALIVE and news.contact.node_id != 0


def needs_probe(member: Member) -> bool:
    """Whether the rotation visits this member: also the dead, so that their return is seen."""
    return member.node_id != 0


__all__ = [
    "ALIVE",
    "DEAD",
    "NOBODY",
    "REFUTATION_BITS",
    "Member",
    "Suspicion",
    "lives",
    "merge_news",
    "needs_probe",
    "unheard",
]
