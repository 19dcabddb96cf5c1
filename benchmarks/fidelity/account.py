"""What was seen of one run, real or simulated. Both are told to it in the same words.

Times are seconds since the run began.  A fabric is *formed* when every peer has its place and
knows the owner of each cell above it, and the root's owner counts every host.  A *takeover* is the
time from the death of a leaf cell's owner until another member of the cell says that it owns it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fabric.machine import Contact
from fabric.peer.notices import OwnerNotice, PlaceNotice
from fabric.wire.peer import Status
from fabric.wire.tree import CellRecord


@dataclass(slots=True)
class Window:
    """The quiet window: messages by type, frames' bytes, CPU. Differences of two readings."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    #: Payload only: what ZeroMQ is given, without its framing. Messages to oneself have none.
    bytes: int = 0
    cpu_s: float = 0.0
    dropped: int = 0

    def add(self, other: Window) -> None:
        """Add what another process counted."""
        self.sent.update(other.sent)
        self.received.update(other.received)
        self.bytes += other.bytes
        self.cpu_s += other.cpu_s
        self.dropped += other.dropped

    def since(self, before: Window) -> Window:
        """Return what was counted since ``before``."""
        return Window(
            self.sent - before.sent,
            self.received - before.received,
            self.bytes - before.bytes,
            self.cpu_s - before.cpu_s,
            self.dropped - before.dropped,
        )


def settled(status: Status) -> tuple[bool, int]:
    """Return whether a peer has its place, and how many hosts it counts as the root's owner."""
    ready = status.complete and len(status.owners) == len(status.path)
    counted = status.root_summary.hosts if status.root_summary is not None else 0
    return ready, counted


def asks_itself(owner: Contact, record: CellRecord) -> bool:
    """Tell whether the owner of ``record`` is among the seats that it asks: the first majority."""
    return owner in record.seats[: len(record.seats) // 2 + 1]


class Account:
    """One run."""

    def __init__(self, peers: int, hosts: int) -> None:
        self._peers = peers
        self._hosts = hosts
        self._ready: set[int] = set()
        self._counted: dict[int, int] = {}
        #: When the fabric was formed; ``None`` while it is not.
        self.formed_s: float | None = None
        self._leaf: dict[int, int] = {}
        self._owner: dict[int, tuple[int, int]] = {}  # cell -> its owner and the term
        self._dead: set[int] = set()
        self._struck: Counter[int] = Counter()
        self._waiting: dict[int, float] = {}
        self.takeovers_s: list[float] = []
        self.window = Window()
        #: Sizes of the leaf cells in the quiet window, ascending: the shape of the tree.
        self.shape: tuple[int, ...] = ()
        #: Of the owners then: how many ask a seat of their own. Which member wins a cell is a race,
        #: but what it then costs is not: that seat grants without a message.
        self.seated = 0
        self.cells = 0

    # --- told by whoever runs it ------------------------------------------------------------------

    def state(self, at_s: float, node: int, ready: bool, counted: int) -> None:
        """A peer said how it is."""
        if ready:
            self._ready.add(node)
        else:
            self._ready.discard(node)
        self._counted[node] = counted
        formed = len(self._ready) == self._peers and max(self._counted.values()) == self._hosts
        if not formed:
            self.formed_s = None
        elif self.formed_s is None:
            self.formed_s = at_s

    def notice(self, at_s: float, node: int, notice: object) -> None:
        """A peer told its watchers something."""
        if isinstance(notice, PlaceNotice):
            self.placed(node, notice.path[0])
        elif isinstance(notice, OwnerNotice) and notice.owns:
            self.owned(at_s, node, notice.cell, notice.term)

    def placed(self, node: int, leaf: int) -> None:
        """A peer is in the leaf cell ``leaf`` now."""
        self._leaf[node] = leaf

    def owned(self, at_s: float, node: int, cell: int, term: int) -> None:
        """A peer owns ``cell`` now."""
        if term > self._owner.get(cell, (0, 0))[1]:
            self._owner[cell] = (node, term)
        began = self._waiting.get(cell)
        if began is not None and node not in self._dead:
            del self._waiting[cell]
            self.takeovers_s.append(at_s - began)

    def died(self, at_s: float, node: int) -> None:
        """A peer was struck. The cell that it lived in and owned waits for another owner."""
        self._dead.add(node)
        self._waiting[self._leaf[node]] = at_s

    def owns(self, owner: Contact, record: CellRecord) -> None:
        """Just before the quiet window: ``owner`` owns the cell of ``record``."""
        self.owned_cell(asks_itself(owner, record))

    def owned_cell(self, itself: bool) -> None:
        """Just before the quiet window: somebody owns a cell, and asks ``itself`` for the lease."""
        self.cells += 1
        self.seated += itself

    def quiet(self) -> None:
        """Note the shape of the tree."""
        living = [cell for node, cell in self._leaf.items() if node not in self._dead]
        self.shape = tuple(sorted(Counter(living).values()))

    # --- asked ------------------------------------------------------------------------------------

    def target(self) -> int | None:
        """Return whom to strike next: the owner of a leaf cell, all cells in turn."""
        cells = sorted(set(self._leaf.values()), key=lambda cell: (self._struck[cell], cell))
        for cell in cells:
            owner = self._owner.get(cell, (0, 0))[0]
            if owner and owner not in self._dead and self._leaf.get(owner) == cell:
                self._struck[cell] += 1
                return owner
        return None

    @property
    def form(self) -> tuple[tuple[int, ...], int, int]:
        """Return all that the message rates of a quiet tree depend on."""
        return self.shape, self.cells, self.seated

    @property
    def unfilled(self) -> int:
        """Return how many cells still wait for another owner."""
        return len(self._waiting)
