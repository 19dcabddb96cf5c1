"""A toy network for gossip in one cell: perfect, or cut as a test says; who speaks is authentic."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import Any

from fabric.gossip.cell import CellGossip
from fabric.gossip.members import Member
from fabric.machine import Contact, ListSink
from fabric.settings import Settings
from fabric.stream import Stream
from fabric.tree.summary import host_summary
from fabric.units import MS
from fabric.wire.gossip import (
    Ack,
    News,
    Ping,
    ProbeAnswer,
    ProbeFor,
    Suspect,
    Sync,
    SyncAsk,
)

SETTINGS = Settings()
HANDLERS = {
    Ping: "on_ping",
    Ack: "on_ack",
    ProbeFor: "on_probe_for",
    ProbeAnswer: "on_probe_answer",
    Suspect: "on_suspect",
    SyncAsk: "on_sync_ask",
    Sync: "on_sync",
}


def contact(key: int) -> Contact:
    return Contact(key, f"m{key}")


def room(cpu: int) -> Any:
    return host_summary(
        labels=(), cpu=16, cpu_free=cpu, memory_mb=1, memory_free_mb=1, disk_free_mb=1, vms=0
    )


class Watcher:
    """Hooks that remember."""

    def __init__(self) -> None:
        self.states: list[tuple[int, int]] = []
        self.suspected_by: list[tuple[int, int]] = []
        self.refutations = 0
        self.differing = 0
        self.alone = 0
        self.outlived = 0
        self.awakenings = 0
        self.strangers: list[Contact] = []
        self.outside = True

    def member_changed(self, cell: Any, member: Member, now: int, out: Any) -> None:
        self.states.append((member.key, member.state))

    def suspected(self, cell: Any, member: Member, witness: int, out: Any) -> None:
        self.suspected_by.append((member.key, witness))

    def refuted(self, cell: Any, out: Any) -> None:
        self.refutations += 1

    def path_differs(self, cell: Any, contact: Contact, now: int, out: Any) -> None:
        self.differing += 1

    def superseded(self, cell: Any, news: News, now: int, out: Any) -> None:
        self.outlived += 1

    def isolated(self, cell: Any, now: int, out: Any) -> None:
        self.alone += 1

    def awoke(self, cell: Any, now: int, out: Any) -> None:
        self.awakenings += 1

    def stranger(self, cell: Any, contact: Contact, now: int, out: Any) -> None:
        self.strangers.append(contact)

    def in_touch(self, cell: Any, suspect: Member, now: int, out: Any) -> bool:
        return self.outside


class Town:
    """Members 1..n of cell 9 and the messages between them, each taking a millisecond."""

    def __init__(self, n: int, boot: int = 1) -> None:
        self.now = 0
        self.out = ListSink()
        self.watchers = {k: Watcher() for k in range(1, n + 1)}
        self.cells: dict[int, CellGossip] = {}
        self.queue: list[tuple[int, int, int, int, Any]] = []
        self.cut: set[tuple[int, int]] = set()
        self.down: set[int] = set()
        self.sent = 0
        self.pinged: Counter[int] = Counter()
        for key in range(1, n + 1):
            self.add(key, boot)
        for cell in self.cells.values():
            cell.set_members([contact(k) for k in self.cells], (), 0, self.out)

    def add(self, key: int, boot: int) -> CellGossip:
        stream, hooks = Stream(key), self.watchers[key]
        cell = CellGossip(9, 0, key, contact(key), boot << 16, SETTINGS, stream, hooks, self.now)
        self.cells[key] = cell
        return cell

    def isolate(self, key: int) -> None:
        self.cut |= {(key, k) for k in self.cells} | {(k, key) for k in self.cells}

    def post(self, source: int) -> None:
        for output in self.out.take():
            if output.kind == "send":
                self.mail(source, *output.args)

    def mail(self, source: int, to: Contact, message: Any) -> None:
        """Send to whoever listens at that address."""
        self.sent += 1
        self.pinged[to.node_id] += isinstance(message, Ping)
        target = int(to.address[1:])
        if (source, target) not in self.cut and target in self.cells:
            heapq.heappush(self.queue, (self.now + MS, self.sent, source, target, message))

    def run(self, us: int) -> None:
        end = self.now + us
        while True:
            due = {k: c.due for k, c in self.cells.items() if k not in self.down}
            at = min([*due.values(), *[q[0] for q in self.queue[:1]]])
            if at > end:
                self.now = end
                return
            self.now = max(at, self.now)
            if self.queue and self.queue[0][0] <= at:
                _, _, source, target, message = heapq.heappop(self.queue)
                if target not in self.down:
                    name = HANDLERS[type(message)]
                    getattr(self.cells[target], name)(source, message, self.now, self.out)
                    self.post(target)
                continue
            for key, when in due.items():
                if when <= self.now:
                    self.cells[key].tick(self.now, self.out)
                    self.post(key)

    def states(self, of: int) -> set[int]:
        return {
            c.members[of].state for k, c in self.cells.items() if k != of and k not in self.down
        }
