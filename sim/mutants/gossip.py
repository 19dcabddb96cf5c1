"""Planted bugs in gossip: who is alive, and what is known of whom."""

from __future__ import annotations

from typing import Final

from sim.mutants.mutant import RUMOURS, WHISPERS, Absent, Mutant, mutant

_CELL: Final = "fabric/gossip/cell.py"
_MERGING: Final = "fabric/gossip/merging.py"
_MEMBERS: Final = "fabric/gossip/members.py"
_COURT: Final = "fabric/gossip/suspicion.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    mutant(
        "alive-beats-suspect",
        "within one incarnation, old news of life wipe out a suspicion",
        _MEMBERS,
        "(new_inc == old_inc and new.state > old.state)",
        "(new_inc == old_inc and new.state != old.state and new.state != 1)",
        RUMOURS,
    ),
    mutant(
        "never-refute",
        "a suspected peer that lives does not say so",
        _MERGING,
        "    if mine.state == LEFT:\n",
        "    if news.state == SUSPECT or mine.state == LEFT:\n",
        RUMOURS,
    ),
    mutant(
        "one-witness",
        "a single witness has a member removed",
        _COURT,
        "        if len(case.witnesses) < needed:\n",
        "        if len(case.witnesses) < 1:\n",
        RUMOURS,
    ),
    mutant(
        "hearsay-is-believed",
        "a member is held for reborn because another one says so",
        _MERGING,
        "        if member.sworn and newer_life(news.incarnation, old.incarnation):\n",
        "        if member.sworn and newer_life(0, old.incarnation):\n",
        RUMOURS,
    ),
    mutant(
        "cut-off-and-sure",
        "the last one in a cell holds the others for dead although nobody else hears it",
        _COURT,
        "not cell.hooks.in_touch(cell, member, now, out):\n",
        "not (cell.hooks.in_touch(cell, member, now, out) or True):\n",
        RUMOURS,
    ),
    mutant(
        "old-boot-counts",
        "what is said of an earlier life counts against the present one",
        _MEMBERS,
        "    status_newer = new_inc > old_inc or (",
        "    status_newer = (new_inc & 65535) > (old_inc & 65535) or (",
        RUMOURS,
    ),
    mutant(
        "ignore-own-death",
        "a peer that hears of its own death does not object",
        _MERGING,
        "    if mine.state == LEFT:\n",
        "    if news.state == DEAD or mine.state == LEFT:\n",
        RUMOURS,
    ),
    mutant(
        "starve-a-delta",
        "a change of load is never passed on by gossip",
        _CELL,
        "self.speak(News(self.key, old.incarnation, old.state, self.me, old.seq + 1, summary))\n",
        "self.news = News(\n"
        "            self.key, old.incarnation, old.state, self.me, old.seq + 1, summary\n"
        "        )\n"
        "        self.myself.take(self.news)\n",
    ),
    mutant(
        "no-anti-entropy",
        "tables are never compared: what gossip lost stays lost",
        _CELL,
        "        if member is not None and msg.digest != self.digest():\n",
        "        if member is not None and msg.digest == self.digest() + 1:\n",
        WHISPERS,
    ),
    mutant(
        "suspicion-outlives-refutation",
        "a refutation does not close the case, so the witnesses go on counting",
        _MERGING,
        "        cell.court.acquit(member)\n",
        "        pass\n",
        RUMOURS,
    ),
    mutant(
        "probe-dead-no-more",
        "members held for dead are not visited again, so their return is not seen",
        _MEMBERS,
        "    return member.node_id != 0\n\n\n__all__",
        "    return member.node_id != 0 and member.state < DEAD\n\n\n__all__",
        RUMOURS,
    ),
    mutant(
        "silence-is-forgiven",
        "an indirect probe that nobody answers accuses nobody",
        _CELL,
        "        self.court.accuse(member, member.news.incarnation, self.key, now, out)\n\n"
        "    def _ask_others",
        "\n    def _ask_others",
        RUMOURS,
    ),
)

ABSENT: Final[tuple[Absent, ...]] = (
    Absent(
        "one-way anti-entropy: who is shown a whole table gives its own, and takes nothing",
        "slower and no more: others ask as well, so each table comes round within a few rounds",
    ),
)
