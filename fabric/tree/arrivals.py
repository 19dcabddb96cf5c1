"""Who wants to join: joins wait here for the chairman's next write, which takes many at once.

Whoever joins lives: for a while no report counts that it is gone, since that may be older news.
A join of somebody who is placed already has it told where it is; if it came from another address
than before, it moves.
"""

from __future__ import annotations

from typing import Final

from fabric.machine import NEVER, Contact
from fabric.tree.planner import Plan
from fabric.units import SECOND
from fabric.wire.tree import OBSERVER, Join

#: Joins taken into one transaction: about a hundred cell records, well below 1 MB.
MAX_JOINS_PER_BATCH: Final = 2000
#: Joins that wait; joiners ask again, so the rest is dropped.
MAX_JOINS_WAITING: Final = 20_000
#: A host that just joined is not removed on an older report.
JOIN_GRACE_US: Final = 5 * SECOND
#: Joins of one host protect it from removal no oftener than this.
JOIN_AGAIN_US: Final = 60 * SECOND


class Arrivals:
    """The chairman's list of joins that wait, and who joined a short while ago."""

    __slots__ = ("joined_at", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[int, Join] = {}
        self.joined_at: dict[int, int] = {}

    def heard(self, node_id: int, now: int) -> None:
        """``node_id`` joins, again perhaps."""
        if now - self.joined_at.get(node_id, -NEVER) >= JOIN_AGAIN_US:
            self.joined_at[node_id] = now  # not each time: whoever asks often may be deaf

    def lately(self, node_id: int, now: int) -> bool:
        """Whether ``node_id`` joined so lately that a report of its death may be older."""
        return self.joined_at.get(node_id, 0) > now - JOIN_GRACE_US

    def wait(self, join: Join) -> bool:
        """Have ``join`` wait for the next write; false where too many wait already."""
        if len(self.waiting) >= MAX_JOINS_WAITING:
            return False
        self.waiting[join.contact.node_id] = join
        return True

    def said_goodbye(self, node_id: int) -> None:
        """``node_id`` wants to join no more."""
        self.waiting.pop(node_id, None)
        self.joined_at.pop(node_id, None)

    def forget(self) -> None:
        """We are chairman no more: joiners ask again, whoever is next."""
        self.waiting = {}

    def take_into(self, plan: Plan) -> bool:
        """Place the first that wait. Returns whether any of them told its zone."""
        taken = list(self.waiting.values())[:MAX_JOINS_PER_BATCH]
        hosts: list[Contact] = []
        zoned = False
        for join in taken:
            contact = join.contact
            del self.waiting[contact.node_id]
            if join.zone and join.role != OBSERVER:
                plan.domain[contact.node_id] = join.zone
                zoned = True
            if contact.node_id in plan.home:
                if plan.contacts[contact.node_id] != contact:
                    plan.move_address(contact)
                plan.moved[contact.node_id] = None
            elif join.role == OBSERVER:
                plan.add_observer(contact)
            else:
                hosts.append(contact)
        if hosts:
            plan.add_hosts(hosts)
        return zoned

    def tidy(self, now: int) -> None:
        """Forget who joined long ago, once these are many."""
        if len(self.joined_at) > MAX_JOINS_WAITING:
            fresh = now - JOIN_GRACE_US
            self.joined_at = {n: t for n, t in self.joined_at.items() if t > fresh}
