"""Planted bugs in the tree: owners, seats, summaries, what a peer holds of the topology."""

from __future__ import annotations

from typing import Final

from sim.mutants.mutant import DECREES, THRONES, Absent, Mutant, mutant

_OWNER: Final = "fabric/tree/owner.py"
_SEATS: Final = "fabric/tree/seats.py"
_PATHS: Final = "fabric/tree/topology.py"
_SUMMARY: Final = "fabric/tree/summary.py"
_JOINING: Final = "fabric/tree/joining.py"
_DUTIES: Final = "fabric/peer/duties.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    mutant(
        "no-term-bump",
        "a takeover asks for the term that the dead owner had",
        _OWNER,
        "                self.state = ASKING\n"
        "                self.term = max(self.term, self.floor) + 1\n",
        "                self.state = ASKING\n"
        "                self.term = max(self.term, self.floor + 1)\n",
    ),
    mutant(
        "grant-a-term-twice",
        "a seat grants the same term to a second asker",
        _SEATS,
        "        if stale or wait > 0 or (other and not ask.pre):\n",
        "        if stale or wait > 0 or (other and not ask.pre and wait > 0):\n",
    ),
    mutant(
        "vote-not-durable",
        "a seat forgets at a restart which term it has granted",
        _SEATS,
        "        if ask.term > self.term:\n            state =",
        "        if ask.term > self.term + (1 << 40):\n            state =",
    ),
    mutant(
        "no-cold-start",
        "a restarted seat grants at once what it may have granted to another",
        _SEATS,
        "        self.term = max(self.term, state.term)\n"
        "        self.cold_until = now + self.settings.lease_us\n",
        "        self.term = max(self.term, state.term)\n",
        THRONES,
    ),
    mutant(
        "lease-from-receipt",
        "the owner counts its lease from when the grant arrived, not from when it asked",
        _OWNER,
        "self.expiry[sender] = self.asked_at + self.settings.lease_us - DRIFT_MARGIN_US\n",
        "self.expiry[sender] = now + self.settings.lease_us - DRIFT_MARGIN_US\n",
    ),
    mutant(
        "minority-owner-goes-on",
        "one seat's grant keeps an owner going that had a majority once",
        _OWNER,
        "sorted(self.expiry.values(), reverse=True)[self.majority - 1]",
        "sorted(self.expiry.values(), reverse=True)[0]",
    ),
    mutant(
        "seat-grants-two",
        "a seat grants to whoever asks, although another's grant still runs",
        _SEATS,
        "        holder = self.grantee if now < self.expires else None\n",
        "        holder = self.grantee if now < self.expires - self.settings.lease_us else None\n",
    ),
    mutant(
        "unknown-is-zero",
        "members that have not reported count as if they were not there",
        _DUTIES,
        "        return merge(inputs, expected)\n",
        "        return merge(inputs, len(inputs))\n",
    ),
    mutant(
        "summary-rounds-down",
        "free room is rounded down, so a summary says no where there is room",
        _SUMMARY,
        "    key = round_up(max(cpu_free, 0)) * 256 + round_up(max(memory_free_mb, 0))\n",
        "    key = round_up(max(cpu_free * 3 // 4, 0)) * 256 + round_up(max(memory_free_mb, 0))\n",
    ),
    mutant(
        "merge-forgets-hosts",
        "of several hosts in one class only the first one's room is told upwards",
        _SUMMARY,
        "counts[told[0]] = counts.get(told[0], 0) + told[1]\n",
        "counts[next(iter(counts), told[0])] = len(counts) + told[1]\n",
    ),
    mutant(
        "rises-held-back",
        "freed room is told only when it is an eighth of all",
        _SUMMARY,
        "    if new.cpu_free > old.cpu_free or new.memory_free_mb > old.memory_free_mb:\n"
        "        return True\n",
        "",
    ),
    mutant(
        "old-record-accepted",
        "an older record of a cell replaces a newer one",
        _PATHS,
        "        if held is not None and record.order <= held.order:\n",
        "        if held is not None and record.order == held.order:\n",
    ),
    mutant(
        "old-owner-accepted",
        "the owner of an earlier term replaces the present one",
        _PATHS,
        "if held is not None and (owner.electorate, owner.term) <= (held.electorate, held.term):\n",
        "if held is not None and (owner.electorate, owner.term) == (held.electorate, held.term):\n",
        THRONES,
    ),
    mutant(
        "doubt-is-forgotten",
        "a peer that doubts its place does not ask",
        _JOINING,
        "        self.due = min(self.due, max(now, self.last_asked + "
        "self.settings.join_retry_us))\n",
        "",
        DECREES,
    ),
)

ABSENT: Final[tuple[Absent, ...]] = (
    Absent(
        "grants of the old electorate keep an owner going under the new one",
        "harmless: a running grant binds its seat whatever the electorate, so nobody else can win",
    ),
    Absent(
        "a seat grants under whatever electorate it is asked",
        "harmless: the raised term floor of a new electorate refuses the same questions",
    ),
    Absent(
        "drop the age of a summary",
        "a member that answers probes tells every change, so ages decide nothing while it lives",
    ),
)
