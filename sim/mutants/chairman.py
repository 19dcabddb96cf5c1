"""Planted bugs in the chairman, its plan of the tree, and the coordinator's rule book."""

from __future__ import annotations

from typing import Final

from sim.mutants.mutant import DECREES, THRONES, Absent, Edit, Mutant, mutant

_ARRIVALS: Final = "fabric/tree/arrivals.py"
_CHAIR: Final = "fabric/tree/chair.py"
_CHAIRMAN: Final = "fabric/tree/chairman.py"
_PLANNER: Final = "fabric/tree/planner.py"
_ROSTER: Final = "fabric/tree/roster.py"
_INQUEST: Final = "fabric/tree/inquest.py"
_TOUCH: Final = "fabric/tree/touch.py"
_DEPARTURES: Final = "fabric/tree/departures.py"
_RULES: Final = "fabric/coordination/rules.py"
_UPKEEP: Final = "fabric/tree/upkeep.py"

MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "act-past-the-lease",
        "a chairman cut off from the coordinator goes on past its own deadline",
        (
            Edit(
                _CHAIR,
                "        return self.epoch is not None and now < self.deadline\n",
                "        return self.epoch is not None\n",
            ),
            Edit(
                _CHAIR,
                "        if self.epoch is not None and now >= self.deadline:\n",
                "        if self.epoch is not None and now >= self.deadline + (1 << 50):\n",
            ),
        ),
    ),
    mutant(
        "skip-lease-check",
        "the coordinator takes writes of a chairman that has lost the chair",
        _RULES,
        "    if chair is None or _epoch(chair) != request.epoch:\n",
        "    if chair is not None and _epoch(chair) < request.epoch:\n",
    ),
    mutant(
        "skip-version-check",
        "the coordinator writes records although another version is stored",
        _RULES,
        "        if put.version != (0 if stored is None else _parse(stored)[0]):\n",
        "        if put.version < 0 and stored is None:\n",
        DECREES,
    ),
    mutant(
        "no-freeze",
        "many hosts that vanish at once are all removed at once",
        _DEPARTURES,
        "        above = len(self.gone) + len(self.removed_at) > mark\n",
        "        above = len(self.gone) + len(self.removed_at) > mark + (1 << 40)\n",
    ),
    mutant(
        "split-loses-a-member",
        "a split cell and its new sibling have one member less than before",
        _PLANNER,
        "        fresh.members = moving\n",
        "        fresh.members = moving = moving[1:]\n",
    ),
    mutant(
        "double-join",
        "a host that asks twice is put into two cells",
        _ARRIVALS,
        "            if contact.node_id in plan.home:\n"
        "                if plan.contacts[contact.node_id] != contact:\n",
        "            if plan.contacts.get(contact.node_id, contact) != contact:\n"
        "                if plan.contacts[contact.node_id] != contact:\n",
    ),
    mutant(
        "new-seats-old-terms",
        "a new electorate starts at the terms that the old one can still reach",
        _ROSTER,
        "                cell.term_floor += 0 if cell.new else TERM_STEP\n",
        "                cell.term_floor += 0\n",
        THRONES,
    ),
    mutant(
        "seats-never-mended",
        "seats of hosts that are gone are never given to others",
        _UPKEEP,
        "            if not cell.seats or since >= self.settings.lease_us:\n",
        "            if not cell.seats:\n",
    ),
    mutant(
        "told-before-written",
        "what could not be written is not read again: the plan goes on from what is nowhere",
        _CHAIRMAN,
        "            self.state = LOADING\n"
        "            self.writing = None\n"
        "            self.next_batch = now + self.settings.batch_us\n",
        "            self.state = PRESIDING\n            self.writing = None\n",
        DECREES,
    ),
    mutant(
        "moved-keep-their-old-home",
        "hosts that a split or merge moved keep their old home in the chairman's plan",
        _PLANNER,
        "                self.home[member] = cell.cell\n"
        "                self.moved[member] = None\n",
        "                self.moved[member] = None\n",
    ),
    mutant(
        "inquest-hears-nobody",
        "whoever answers an inquest counts as silent",
        _INQUEST,
        "            case.living[sender] = None\n",
        "            pass\n",
        THRONES,
    ),
    mutant(
        "unheard-and-sure",
        "a chairman whom few hear takes the silence of the others for their death",
        _TOUCH,
        "        return self.stays or self.sure()\n",
        "        return True\n",
    ),
)

ABSENT: Final[tuple[Absent, ...]] = (
    Absent(
        "who was reported gone and came back stays on the list",
        "harmless: only who was reported within the last seconds is removed, older reports expire",
    ),
    Absent(
        "act while ZooKeeper's session is SUSPENDED",
        "the virtual coordinator has no sessions; its part here is act-past-the-lease, the news "
        "are tested in tests/unit/test_chairman.py and tests/real/test_zookeeper_peers.py",
    ),
)
