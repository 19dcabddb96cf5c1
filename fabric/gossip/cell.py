"""Gossip inside one cell: who is in it, who is alive, what each one has to offer.

Theory of operation
-------------------
SWIM (Das, Gupta, Motivala, 2002) with Lifeguard's local health (Dadgar, Phillips, Currey, 2018),
in rounds.  In round r a member probes the ((r mod (n-1)) + 1)-th member after it in key order, so
that everybody is probed by exactly one other in each round; the round number travels on pings.

* A ping that stays unanswered is tried through three others (``ProbeFor``), then becomes a
  *suspicion*, told to every member at once.  See :mod:`fabric.gossip.suspicion` for what follows.
* News (status and load of members) ride on pings and acks.  Each holder passes a piece of news on
  a number of times that grows with the logarithm of the cell, so it reaches everybody;
  anti-entropy compares whole tables now and then and mends what was lost.
* Who belongs to the cell is not decided here but by its record (:meth:`CellGossip.set_members`).

The same machine serves leaf cells (members are hosts) and inner cells (members are child cells,
spoken for by their owners).  It writes the table that tree and placement read
(:mod:`fabric.gossip.table`; what news of others do to it: :mod:`fabric.gossip.merging`), and
reports what the rest of the peer must know through :class:`~fabric.gossip.hooks.Hooks`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fabric.gossip.hooks import Hooks
from fabric.gossip.members import Member, needs_probe
from fabric.gossip.merging import about_me, merge_one
from fabric.gossip.suspicion import Court
from fabric.gossip.table import Table
from fabric.limits import MAX_NEWS
from fabric.machine import NEVER, Contact, Sink
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.tree.summary import Summary
from fabric.units import MS, SECOND
from fabric.wire.gossip import (
    ALIVE,
    DEAD,
    LEFT,
    SUSPECT,
    Ack,
    News,
    Ping,
    ProbeAnswer,
    ProbeFor,
    Suspect,
    Sync,
    SyncAsk,
)

#: Probes on behalf of others that may be under way; more are dropped (the asker tries others).
MAX_RELAYS = 64
#: Rounds that others tell are believed below this: they never run out of 62 bits from there.
ROUND_LIMIT = 1 << 40
#: Members asked to probe for us.
INDIRECT_PROBES = 3
#: Lifeguard's ceiling: a peer that fails that often itself gives others so much more time.
MAX_HEALTH = 6
#: So long without running is a sleep, in which others may have held us for dead and removed us.
SLEEP_US = 2 * SECOND
#: Time to be let in again after that, before we trust in what we see.
AWAKE_US = 3 * SECOND
#: Rounds without any answer in a cell of several, after which we ask where we belong; so often
#: we ask as well while most of the cell is silent: those who still answer may have been removed
#: together with us, and then nobody else talks to us.
ISOLATED_ROUNDS = 5


class CellGossip(Table):
    """One peer's part in the gossip of one cell."""

    __slots__ = (
        "court", "due", "health", "hooks", "next_round", "next_sync", "number", "path",
        "probe_deadline", "probe_key", "probe_number", "probe_relayed", "quiet_rounds", "relays",
        "round", "settings", "stream", "sure_from",
    )  # fmt: skip

    def __init__(
        self,
        cell: int,
        level: int,
        key: int,
        me: Contact,
        incarnation: int,
        settings: Settings,
        stream: Stream,
        hooks: Hooks,
        now: int,
    ) -> None:
        # counted from the clock: if we took part before under this life, we go on above that
        super().__init__(cell, level, key, me, incarnation, now // MS)
        self.settings = settings
        self.stream = stream
        self.hooks = hooks
        self.path = 0  # digest of the topology from this cell up; the peer keeps it
        self.round = 0
        self.number = 0
        self.health = 0
        self.quiet_rounds = 0
        self.sure_from = 0  # until then we accuse nobody and hold nobody for dead
        self.probe_number = 0  # 0: none under way
        self.probe_key = 0
        self.probe_deadline = NEVER
        self.probe_relayed = False
        self.relays: dict[int, tuple[Contact, int, int]] = {}  # our number -> asker, his, key
        self.court = Court(self)
        self.next_round = now + stream.below(settings.probe_us)
        self.next_sync = now + stream.below(settings.anti_entropy_us)
        self.due = self.next_round

    # --- membership, decided by the cell's record ------------------------------------------------

    def set_members(
        self, members: Sequence[Contact], observers: Sequence[Contact], now: int, out: Sink
    ) -> None:
        """Take the record's members (hosts, or child cells without address) and observers."""
        if self.listed[0] is members and self.listed[1] is observers:
            return  # the same record as before: called whenever anything on the path changes
        self.list_members(members, observers)
        self.court.keep_only(self.members)
        if self.probe_number and self.probe_key not in self.members:
            self._probe_over()
        self.schedule(out)

    def set_summary(self, summary: Summary) -> None:
        """Tell the cell what we have to offer now."""
        old = self.news
        self.speak(News(self.key, old.incarnation, old.state, self.me, old.seq + 1, summary))

    def tell(self, to: Contact, out: Sink) -> None:
        """Tell one member (the owner, say) what we have to offer, now and directly."""
        if to.node_id != self.me.node_id:
            out.send(to, Ping(self.cell, self.key, 0, self.round, self.path, (self.news,)))

    def raise_incarnation(self, incarnation: int) -> None:
        """Speak under a higher life number (a new term of ours)."""
        if incarnation > self.news.incarnation:
            old = self.news
            self.speak(News(self.key, incarnation, ALIVE, self.me, old.seq + 1, old.summary))

    def leave(self, out: Sink) -> None:
        """Say goodbye to everybody, in person."""
        old = self.news
        news = News(self.key, old.incarnation, LEFT, self.me, old.seq, old.summary)
        self.news = news  # not through speak(): nobody passes it on for us
        self.myself.take(news)
        goodbye = Ping(self.cell, self.key, 0, self.round, self.path, (self.news,))
        for member in self.members.values():
            if needs_probe(member):
                out.send(member.contact, goodbye)

    def introduce(self, out: Sink, to: Contact) -> None:
        """Show ourselves (and all we know) to a member that may not know us yet."""
        out.send(to, Sync(self.cell, self.everything(), True))

    # --- messages --------------------------------------------------------------------------------

    def on_ping(self, sender: int, msg: Ping, now: int, out: Sink) -> None:
        if msg.news:
            self.merge(sender, msg.news, now, out)
        member = self.members.get(msg.key)
        if member is None:
            former = self.former.get(sender)
            if former is not None:
                self.hooks.stranger(self, former, now, out)
            return
        if member.node_id != sender or msg.number == 0:
            return
        if self.round + 1 < msg.round < ROUND_LIMIT:
            # one ahead is just early in this round; following it at once would have two members
            # drive each other on, and in steps of two an even cell never meets half its pairs
            self.round = msg.round - 1
        if msg.path != self.path:
            self.hooks.path_differs(self, member.contact, now, out)
        if member.state != ALIVE:
            self.freshen(member)  # it must hear of it, to refute
        told = self.take_news() if self.fresh else ()
        if msg.news and msg.news[-1].key == self.key and self.level == 0:
            told = (*told[: MAX_NEWS - 1], self.news)  # it wants to hear of us from ourselves
        out.send(member.contact, Ack(self.cell, self.key, msg.number, self.path, told))

    def on_ack(self, sender: int, msg: Ack, now: int, out: Sink) -> None:
        if msg.news:
            self.merge(sender, msg.news, now, out)
        member = self.members.get(msg.key)
        if member is None or member.node_id != sender:
            return
        self.quiet_rounds = 0
        # the key counts: at the address of a dead member there may be somebody else by now
        if msg.number == self.probe_number:
            if msg.key != self.probe_key:
                return
            self._probe_over()
            self._reckon()
            if self.health:
                self.health -= 1
        elif msg.number in self.relays:
            asker, number, key = self.relays[msg.number]
            if msg.key == key:
                del self.relays[msg.number]
                out.send(asker, ProbeAnswer(self.cell, number))
        else:
            self.court.answered(msg.number, msg.key)
        if member.suspicion is not None:
            self.court.withdraw(member)
        if msg.path != self.path:
            self.hooks.path_differs(self, member.contact, now, out)

    def on_probe_for(self, sender: int, msg: ProbeFor, now: int, out: Sink) -> None:
        asker, target = self.speaker(sender), self.members.get(msg.key)
        if asker is None or target is None or not needs_probe(target):
            return
        if len(self.relays) >= MAX_RELAYS:
            self.relays.clear()
        number = self._next_number()
        self.relays[number] = (asker.contact, msg.number, msg.key)
        self._send_ping(target, number, out)

    def on_probe_answer(self, sender: int, msg: ProbeAnswer, now: int, out: Sink) -> None:
        if self.speaker(sender) is None:
            return
        if msg.number == self.probe_number:
            self._probe_over()
            self.quiet_rounds = 0
        else:
            self.court.forget(msg.number)

    def on_suspect(self, sender: int, msg: Suspect, now: int, out: Sink) -> None:
        witness = self.speaker(sender)
        if msg.key == self.key:
            about_me(self, News(msg.key, msg.incarnation, SUSPECT, self.me, 0, None), now, out)
            return
        member = self.members.get(msg.key)
        if witness is not None and member is not None and witness.key != msg.key:
            self.court.accuse(member, msg.incarnation, witness.key, now, out)
            self.schedule(out)

    def on_sync_ask(self, sender: int, msg: SyncAsk, now: int, out: Sink) -> None:
        member = self.speaker(sender)
        if member is not None and msg.digest != self.digest():
            out.send(member.contact, Sync(self.cell, self.everything(), True))

    def on_sync(self, sender: int, msg: Sync, now: int, out: Sink) -> None:
        self.merge(sender, msg.table, now, out)
        member = self.speaker(sender)
        if member is not None and msg.answer:
            out.send(member.contact, Sync(self.cell, self.everything(), False))

    # --- news ------------------------------------------------------------------------------------

    def merge(self, sender: int, news_list: Sequence[News], now: int, out: Sink) -> None:
        """Take what ``sender`` says of others. Verdicts count as one witness's word."""
        members = self.members
        for news in news_list:
            member = members.get(news.key)
            if member is None:
                if news.key == self.key and news is not self.news:
                    about_me(self, news, now, out)
            elif news is not member.news or (
                # what we hold is nothing new, but for its own word where we had only hearsay
                not member.sworn and sender in (member.key, news.contact.node_id)
            ):
                merge_one(self, sender, member, news, now, out)

    def falter(self) -> None:
        """Something failed that may be our own fault: give others more time (local health)."""
        self.health = min(self.health + 1, MAX_HEALTH)

    def convict(self, member: Member, now: int, out: Sink) -> None:
        """Enough witnesses, and time is up: hold ``member`` for dead."""
        old = member.news
        self.renew(member, News(old.key, old.incarnation, DEAD, old.contact, old.seq, old.summary))
        self.hooks.member_changed(self, member, now, out)

    # --- time ------------------------------------------------------------------------------------

    def tick(self, now: int, out: Sink) -> None:
        """Do what is due at ``now``; :attr:`due` says when to come again."""
        if now - self.due > self.settings.ack_timeout_us:
            self._stalled(now, out)
        if now >= self.probe_deadline:
            self._probe_late(now, out)
        if now >= self.court.due:
            self.court.tick(now, out)
        if now >= self.next_round:
            self._round(now, out)
        self._reckon()

    def _stalled(self, now: int, out: Sink) -> None:
        """We were not running (paused, overloaded): what is unanswered proves nothing.

        After a long sleep nothing does for a while: we may be no member any more, so that nobody
        answers us but those who slept as well.
        """
        self._probe_over()
        self.court.postpone(now - self.due)
        if now - self.due >= SLEEP_US and self.order:
            self.sure_from = now + AWAKE_US
            self.hooks.awoke(self, now, out)

    def _round(self, now: int, out: Sink) -> None:
        self.next_round = now + self.settings.probe_us
        self.round += 1
        n = len(self.order)
        if n == 0:
            return
        self.quiet_rounds += 1
        alone = self.round % ISOLATED_ROUNDS == 0 and 2 * self.living < n
        if self.quiet_rounds > ISOLATED_ROUNDS or alone:
            self.quiet_rounds = 0
            self.hooks.isolated(self, now, out)
        if self.probe_number:
            self._outlasted(now, out)
        step = self.round % n  # n others: n steps after us
        target = self.order[(self.position + step) % n]
        if needs_probe(target):
            self.probe_key = target.key
            self.probe_number = number = self._next_number()
            self.probe_relayed = False
            self.probe_deadline = now + self.settings.ack_timeout_us * (1 + self.health)
            self._send_ping(target, number, out)
        if now >= self.next_sync:
            self.next_sync = now + self.settings.anti_entropy_us
            partner = self.order[self.stream.below(n)]
            if partner.alive:
                out.send(partner.contact, SyncAsk(self.cell, self.digest()))

    def _probe_late(self, now: int, out: Sink) -> None:
        member = self.members.get(self.probe_key)
        if member is None or member.news.state >= DEAD:
            self._probe_over()
            return
        if not self.probe_relayed:
            self.probe_relayed = True
            self.probe_deadline = now + self.settings.indirect_timeout_us * (1 + self.health)
            if self._ask_others(member, out):
                return
        self._probe_over()
        self.falter()
        self.court.accuse(member, member.news.incarnation, self.key, now, out)

    def _ask_others(self, target: Member, out: Sink) -> bool:
        helpers = [m for m in self.members.values() if m.alive and m is not target]
        if not helpers:
            return False
        start = self.stream.below(len(helpers))
        for i in range(min(INDIRECT_PROBES, len(helpers))):
            helper = helpers[(start + i) % len(helpers)]
            out.send(helper.contact, ProbeFor(self.cell, self.probe_number, target.key))
        return True

    def _outlasted(self, now: int, out: Sink) -> None:
        """A probe is still under way when the next round begins: it must come to its end.

        Bad local health stretches a probe beyond a round.  Dropped, it would never accuse anybody,
        and where most members are dead, health would never get better again.
        """
        deadline = self.probe_deadline
        if not self.probe_relayed:
            deadline = now + self.settings.indirect_timeout_us * (1 + self.health)
            target = self.members.get(self.probe_key)
            if target is not None:
                self._ask_others(target, out)
        self.court.wait_for(self.probe_number, self.probe_key, deadline)
        self._probe_over()

    def _probe_over(self) -> None:
        self.probe_number = 0
        self.probe_deadline = NEVER

    def _send_ping(self, target: Member, number: int, out: Sink) -> None:
        if target.state != ALIVE:
            self.freshen(target)
        told = self.take_news() if self.fresh else ()
        if not target.sworn and self.level == 0:
            told = (*told[: MAX_NEWS - 1], target.news)  # what we heard of it: is that so?
        out.send(target.contact, Ping(self.cell, self.key, number, self.round, self.path, told))

    def verify(self, member: Member, out: Sink) -> None:
        """Others say that a member lives a later life: ask it, once a round at most."""
        if member.asked != self.round:
            member.asked = self.round
            news = (member.news,)
            number = self._next_number()
            out.send(member.contact, Ping(self.cell, self.key, number, self.round, self.path, news))

    def probe_now(self, target: Member, out: Sink) -> int:
        """Ping outside the rotation (a witness's duty); returns the number to wait for."""
        number = self._next_number()
        self._send_ping(target, number, out)
        return number

    def _next_number(self) -> int:
        self.number += 1
        return self.number

    def schedule(self, out: Sink) -> None:
        """Reckon anew when to come again, and say so."""
        self._reckon()
        out.wake(self.due)

    def _reckon(self) -> None:
        due = self.next_round
        if self.probe_deadline < due:
            due = self.probe_deadline
        if self.court.due < due:
            due = self.court.due
        self.due = due


__all__ = ["CellGossip", "Hooks"]
