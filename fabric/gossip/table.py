"""The member table of one cell: its rows, which of their news still go out, and its digest.

All change of rows goes through :meth:`Table.renew`.  What is derived from the rows (the digest that
anti-entropy compares, the order in which members follow an owner) is kept and brought up to date by
the rows that changed, since every peer needs it all the time and rows change seldom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fabric.gossip.members import Member, lives, relocated, same_status, unheard
from fabric.limits import MAX_NEWS
from fabric.machine import Contact
from fabric.stream import mix
from fabric.wire.gossip import ALIVE, News

#: Former members that are remembered: more are not removed from one cell in a short time.
MAX_FORMER: Final = 32


class Table:
    """Rows of the other members, and our own. The base of ``CellGossip``, its only writer."""

    __slots__ = (
        "_digested", "_ranking", "_undigested", "budget", "cell", "former", "fresh", "key", "level",
        "listed", "living", "me", "members", "myself", "news", "order", "position", "statuses",
        "version",
    )  # fmt: skip

    def __init__(
        self, cell: int, level: int, key: int, me: Contact, incarnation: int, seq: int
    ) -> None:
        self.cell = cell
        self.level = level
        self.key = key
        self.me = me
        self.members: dict[int, Member] = {}  # the others, in key order; not ourselves
        self.former: dict[int, Contact] = {}  # hosts that were members
        self.listed: tuple[Sequence[Contact], Sequence[Contact]] = ((), ())  # by the record
        self.order: list[Member] = []  # the same, by number
        self.position = 0  # where our key would stand in ``order``
        self._ranking: list[Member] | None = None
        self.living = 0  # how many others are alive and not under suspicion
        self.version = 0  # counts changes of rows
        self.statuses = 0  # counts those of a status, a speaker or the membership
        self.news = News(key, incarnation, ALIVE, me, seq, None)  # our own
        self.myself = Member(key, self.news, False)  # our own row
        self.budget = self.myself.left = 4  # how often news go out; grows with the cell
        self.fresh = [self.myself]  # rows whose news still go out, the longest waiting first
        self._digested = 0  # the others' rows in the digest, but for those that changed since
        self._undigested: list[Member] = []

    # --- writing ---------------------------------------------------------------------------------

    def list_members(self, members: Sequence[Contact], observers: Sequence[Contact]) -> None:
        """Have a row for each member of the record, and no others."""
        listed = {c.node_id: c for contacts in self.listed for c in contacts}
        self.listed = (members, observers)
        rows: dict[int, Member] = {}
        for contacts, observer in ((members, False), (observers, True)):
            for contact in contacts:
                key = contact.node_id
                if key == self.key:
                    continue
                row = self.members.get(key)
                if row is None:
                    speaker = contact if self.level == 0 else Contact(0, "")
                    row = Member(key, unheard(key, speaker), observer)
                elif self.level == 0 and contact not in (listed.get(key), row.news.contact):
                    row.take(relocated(row.news, contact))  # the record says that it moved
                rows[key] = row
        if self.level == 0:
            self._remember(rows)
        self.members = {key: rows[key] for key in sorted(rows)}
        self.order = list(self.members.values())
        self.living = sum([lives(row.news) for row in rows.values()])
        self.position = sum([key < self.key for key in rows])
        self._ranking = None
        self.budget = len(rows).bit_length() + 2
        self.fresh = [m for m in self.fresh if m is self.myself or m.key in rows]
        self.freshen(self.myself)
        self._digested = 0
        self._undigested = self.order.copy()
        for row in self._undigested:
            row.mark, row.marked = 0, False
        self.version += 1
        self.statuses += 1

    def _remember(self, rows: Mapping[int, Member]) -> None:
        """Note who is a member no more: it may not know yet, and ping us."""
        for key in rows:
            self.former.pop(key, None)
        for key, row in self.members.items():
            if key not in rows:
                self.former[key] = row.contact
        while len(self.former) > MAX_FORMER:
            del self.former[next(iter(self.former))]

    def renew(self, member: Member, news: News) -> None:
        """Put ``news`` into a row, and pass them on."""
        old = member.news
        member.take(news)
        if member.marked:
            member.marked = False
            self._undigested.append(member)
        self.freshen(member)
        self.version += 1
        if not same_status(old, news):
            self.statuses += 1
            self.living += lives(news) - lives(old)

    def freshen(self, member: Member) -> None:
        """Have the news of a row go out once more (as often as news do)."""
        if member.left == 0:
            self.fresh.append(member)
        member.left = self.budget

    def speak(self, news: News) -> None:
        """Say something else of ourselves from now on."""
        self.news = news
        self.myself.take(news)
        self.freshen(self.myself)
        self.version += 1

    def take_news(self) -> tuple[News, ...]:
        """Return the news that go out now, the longest waiting first, and count them down."""
        fresh = self.fresh
        taken = fresh[:MAX_NEWS]
        del fresh[:MAX_NEWS]
        for member in taken:
            left = member.left = member.left - 1
            if left > 0:
                fresh.append(member)  # to the end of the line
        return tuple([member.news for member in taken])

    # --- reading ---------------------------------------------------------------------------------

    def everything(self) -> tuple[News, ...]:
        """Return the whole table, but for rows of which nothing was heard."""
        return (self.news, *[m.news for m in self.members.values() if m.news.incarnation])

    @property
    def ranking(self) -> list[Member]:
        """Members in the order in which they should follow an owner; no observers."""
        ranking = self._ranking
        if ranking is None:
            members = self.members
            ranks = sorted([(mix(self.cell, k), k) for k, m in members.items() if not m.observer])
            ranking = self._ranking = [members[key] for _, key in ranks]
        return ranking

    def digest(self) -> int:
        """Return a hash of the table: equal tables (status and load) have equal digests."""
        digest = self._digested
        for member in self._undigested:
            digest ^= member.mark
            digest ^= member.remark()
        self._digested = digest
        self._undigested.clear()
        return digest ^ self.myself.remark()

    def speaker(self, node_id: int) -> Member | None:
        """Return the member that ``node_id`` speaks for in this cell, if any."""
        if self.level == 0:
            return self.members.get(node_id)
        for member in self.members.values():
            if member.node_id == node_id:
                return member
        return None
