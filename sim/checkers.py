"""What must hold in every run, looked at all along.

=======================  ==========================================================================
invariant                meaning
=======================  ==========================================================================
``overcommitted-host``   a host's rows use more than the host has
``books-do-not-add-up``  what the books say is used is not the sum of their rows
``leaked-reservation``   room is held for nobody: expired, released, or its caller is long gone
``lost-reservation``     a confirmed reservation is not in the books of its host
``doubly-confirmed``     one key is confirmed on two hosts
``two-owners``           two peers own one cell under the same electorate and term
``terms-overlap``        an older electorate elects under a term that a newer one's do not outrank
``order-fell``           a peer went back to an older record or owner of a cell
``tree-invalid``         the written topology is no tree of the hosts that it should hold
``not-converged``        long after the last fault the peers still do not agree with what is written
``owner-missing``        long after the last fault a cell has no owner
``cannot-place``         long after the last fault placements still find no answer
``machine-raised``       a machine raised an exception (noted by the engine)
=======================  ==========================================================================

By :mod:`sim.checks.leases`, at each election:

=======================  ==========================================================================
``two-leases``           two peers hold a cell's lease at once under one electorate
``two-chairmen``         two candidates hold the chair at once
=======================  ==========================================================================

By :mod:`sim.checks.topology`, at each commit:

=======================  ==========================================================================
``unfenced-write``       a topology write by somebody who does not hold the chair
``unwritten-record``     a peer holds a record that was never written
``lost-update``          a record was written over another version than the writer had read
``healthy-host-removed`` a host was removed that lives and that no fault has touched for long
``mass-removal``         more hosts were removed at once than the freeze allows
=======================  ==========================================================================

By :mod:`sim.checks.tables`:

=======================  ==========================================================================
``room-held-back``       a host told less free room than it has
``summary-says-no``      a summary leaves no room where a host or member below it has some
``wrong-verdict``        in a calm, a living member is held for suspect or dead
``stale-table``          in a calm, a member's news of a while ago have not arrived
=======================  ==========================================================================

By :mod:`sim.checks.verdicts`:

=======================  ==========================================================================
``status-fell``          a peer went back to older news of a member
``healthy-failed``       a member was held for dead that no fault had touched
``cheap-verdict``        a member was held for dead with fewer witnesses than are needed
``blind-verdict``        a member was held for dead by one that hears nobody
``hasty-verdict``        a member was held for dead although it had only just refuted
``death-unnoticed``      a member is dead for long, and still held for alive
=======================  ==========================================================================

By :mod:`sim.checks.placement` and :mod:`sim.checks.vms`:

=======================  ==========================================================================
``wrong-refusal``        a request was refused although a host had room all the while
``unavailable-in-calm``  long after the last fault, a request could not be answered
``lost-promise``         room that a caller was given was unknown when he came to confirm it
``stray-reservation``    a second host goes on holding room for what was placed elsewhere
``constraint-broken``    a placement breaks a constraint of its request
``piled-up``             owners sent far more to hosts than these had room for
``vm-lost``              a VM that was made is in no books, or on no hypervisor
``vm-unaccounted``       a machine runs that is in no books
``vm-stuck``             a VM is being made or removed for ever
=======================  ==========================================================================

The books of all hosts are audited together every :data:`AUDIT_EVERY_US`; the tree is looked at
every :data:`TREE_EVERY_US`.  That costs little, since both only read what machines hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fabric.units import SECOND
from fabric.wire.tree import CellRecord, Order
from sim.checks.leases import LeaseChecks
from sim.checks.placement import PlacementChecks
from sim.checks.tables import TableChecks
from sim.checks.topology import WriteChecks
from sim.checks.verdicts import VerdictChecks
from sim.checks.vms import VmChecks
from sim.convergence import Convergence
from sim.inspect import cells_of, is_frozen, owns
from sim.roll import Roll
from sim.workload import (
    CONFIRMED,
    DOUBTFUL,
    FAILED,
    REFUSED,
    RELEASED,
    UNDER_WAY,
    Placing,
    Workload,
)

if TYPE_CHECKING:
    from agent.books import Books
    from fabric.tree.topology import PathStore
    from sim.engine import Node
    from sim.world import SimWorld

TREE_EVERY_US: Final = 1 * SECOND
AUDIT_EVERY_US: Final = 10 * SECOND
#: With more hosts than these their tables are looked at only so often.
MANY: Final = 500
TABLES_EVERY_US: Final = 10 * SECOND
#: Messages under way, commits, sweeps: books may lag behind their callers by so much.
GRACE_US: Final = 5 * SECOND
#: A placement that is over is remembered so long: longer than any reservation of it can live.
REMEMBER_US: Final = 180 * SECOND
#: After the last fault, or the end of a freeze that it caused, everything must be right again
#: Placements of the last so long must have been answered.
PLACING_US: Final = 20 * SECOND
#: within this. (While frozen, the chairman removes nobody: that is meant.)
LIVENESS_US: Final = 60 * SECOND


class Checkers:
    """All checkers of one run."""

    def __init__(self, world: SimWorld, workload: Workload) -> None:
        self._world = world
        self._workload = workload
        self.roll = Roll(world)
        self.convergence = Convergence(world, self.roll)
        #: (cell, electorate, term) -> node id of its one owner.
        self._owners: dict[tuple[int, Order, int], int] = {}
        #: Node index -> life and boot, and cell -> (order, owner) as seen last.
        self._seen: dict[int, tuple[tuple[int, int], dict[int, tuple[Any, ...]]]] = {}
        #: Cell -> all (electorate, term) that were ever claimed.
        self._terms: dict[int, list[tuple[Order, int]]] = {}
        self.takeovers = 0
        self.leases = LeaseChecks(world)
        self.writes = WriteChecks(world)
        self.tables = TableChecks(world, self.roll)
        self.verdicts = VerdictChecks(world)
        self.placement = PlacementChecks(world, self.writes, self.roll)
        self.vms = VmChecks(world, workload.vms)

    def start(self) -> None:
        """Look from now on, again and again."""
        world = self._world
        world.watchers += [self.leases.notice, self.verdicts.notice]
        world.coordinator.on_commit = self.writes.commit
        world.coordinator.on_restored = self.writes.load
        self.writes.load()
        self._workload.on_placed = self.placement.placed
        self._workload.on_refused = self.placement.refused
        self._workload.on_unavailable = self.placement.unavailable
        self._workload.on_unconfirmed = self.placement.unconfirmed
        self._converged()
        self._each_second()
        self._tree()
        self._audit_again()

    def _converged(self) -> None:
        engine = self._world.engine
        pause_us = TREE_EVERY_US if self.convergence.look() else TREE_EVERY_US // 4
        engine.at(engine.now + pause_us, self._converged)

    def _tree(self) -> None:
        engine = self._world.engine
        for row in self.roll.take_unjudged():
            self._look_at_paths(row.node, row.paths)
        engine.at(engine.now + TREE_EVERY_US, self._tree)

    def _each_second(self) -> None:
        engine = self._world.engine
        self.writes.watch()
        self.placement.sample(self.convergence.depth)
        self.tables.look()
        self.verdicts.look()
        pause_us = SECOND if len(self._world.hosts) <= MANY else TABLES_EVERY_US
        engine.at(engine.now + pause_us, self._each_second)

    def _audit_again(self) -> None:
        engine = self._world.engine
        self.audit()
        engine.at(engine.now + AUDIT_EVERY_US, self._audit_again)

    # --- tree -------------------------------------------------------------------------------------

    def _look_at_paths(self, node: Node, paths: PathStore) -> None:
        """Compare what a peer holds with what it held, and owners with those of others."""
        life = (node.role.lives, node.role.boots)
        before_life, before = self._seen.get(node.index, ((0, 0), {}))
        if before_life != life:
            before = {}
        now: dict[int, tuple[Any, ...]] = {}
        for cell in paths.path:
            owner = paths.owners.get(cell)
            order = paths.records[cell].order
            if not self.writes.was_written(cell, order):
                detail = f"cell {cell}: holds {tuple(order)}, which nobody wrote"
                self._world.violation("unwritten-record", (node,), detail)
            if owner is None:
                now[cell] = (order, None)
            else:
                now[cell] = (order, (owner.electorate, owner.term))
                if owner.contact.node_id not in self._world.pretenders:
                    self._claim(
                        node, owner.cell, owner.electorate, owner.term, owner.contact.node_id
                    )
            held = before.get(cell)
            if held is not None and held != now[cell]:
                fell = held[0] > order
                fell = fell or (held[1] is not None and (now[cell][1] or held[1]) < held[1])
                if fell:
                    detail = f"cell {cell}: from {held} to {now[cell]}"
                    self._world.violation("order-fell", (node,), detail)
        self._seen[node.index] = (life, now)

    def _claim(self, node: Node, cell: int, electorate: Order, term: int, owner: int) -> None:
        key = (cell, electorate, term)
        known = self._owners.get(key)
        if known is None:
            self._owners[key] = owner
            self.takeovers += 1
            self._compare_terms(node, cell, electorate, term)
        elif known != owner and not self._seat_forgot():
            by_id = self._world.engine.by_id
            nodes = [by_id[i] for i in (known, owner) if i in by_id]
            detail = f"cell {cell}, electorate {tuple(electorate)}, term {term}"
            self._world.violation("two-owners", nodes, detail)

    def _seat_forgot(self) -> bool:
        """Whether a disk lied: seats that forget their votes may elect two."""
        return any(node.disk.broke_promises for node in self._world.hosts)

    def _compare_terms(self, node: Node, cell: int, electorate: Order, term: int) -> None:
        """Whoever a newer electorate elects must outrank all that older ones still elect."""
        claims = self._terms.setdefault(cell, [])
        for other, other_term in claims:
            if other != electorate and (other < electorate) != (other_term < term):
                detail = (
                    f"cell {cell}: term {term} of electorate {tuple(electorate)}, "
                    f"term {other_term} of {tuple(other)}"
                )
                self._world.violation("terms-overlap", (node,), detail)
        claims.append((electorate, term))

    # --- books ------------------------------------------------------------------------------------

    def audit(self) -> None:
        """Audit the books of all living hosts at this one moment."""
        confirmed: dict[str, Node] = {}
        self.roll.refresh()
        for row in self.roll.rows:
            if row.books is not None:
                self._audit_host(row.node, row.books, confirmed)
        self._compare_promises(confirmed)
        self.vms.audit()
        self.placement.audit(self._workload.open)
        self.tables.sums()

    def _audit_host(self, node: Node, books: Books, confirmed: dict[str, Node]) -> None:
        spec = books.spec
        cpu = memory_mb = 0
        for row in books.vms.values():
            cpu += row.cpu
            memory_mb += row.memory_mb
        if books.reservations:
            now = node.now
            for held in books.reservations.values():
                cpu += held.cpu
                memory_mb += held.memory_mb
                self._audit_reservation(node, held, now, confirmed)
        violation = self._world.violation
        if cpu > spec.cpu or memory_mb > spec.memory_mb:
            detail = f"{cpu} of {spec.cpu} vCPUs, {memory_mb} of {spec.memory_mb} MB"
            violation("overcommitted-host", (node,), detail)
        if (cpu, memory_mb) != (books.cpu_used, books.memory_used_mb):
            detail = f"{cpu}, {memory_mb} in rows; {books.cpu_used}, {books.memory_used_mb} in sums"
            violation("books-do-not-add-up", (node,), detail)

    def _audit_reservation(
        self, node: Node, row: Any, now: int, confirmed: dict[str, Node]
    ) -> None:
        violation = self._world.violation
        if row.expires_at:
            if row.expires_at + GRACE_US < now:
                late = (now - row.expires_at) // SECOND
                violation("leaked-reservation", (node,), f"{row.key} expired {late} s ago")
            return
        other = confirmed.setdefault(row.key, node)
        if other is not node:
            violation("doubly-confirmed", (other, node), row.key)
        if node.disk.broke_promises:
            return  # what was given back may have come back with the old state
        placing = self._workload.open.get(row.key)
        if placing is None:
            violation("leaked-reservation", (node,), f"{row.key}: its caller is long gone")
        elif placing.state in (RELEASED, REFUSED, FAILED) and self._settled(placing):
            violation("leaked-reservation", (node,), f"{row.key}: given back, and yet confirmed")

    def _settled(self, placing: Placing) -> bool:
        return placing.changed_us + GRACE_US < self._world.engine.now

    def _compare_promises(self, confirmed: dict[str, Node]) -> None:
        """Find what callers were promised and books do not hold; forget what is over."""
        world = self._world
        now = world.engine.now
        over = []
        for key, placing in self._workload.open.items():
            if placing.state == CONFIRMED:
                if key not in confirmed and self._settled(placing):
                    assert placing.placed is not None
                    node_id = placing.placed.host.node_id
                    node = world.engine.by_id[node_id]
                    # a wiped host came back as somebody else: its promises went with its disk,
                    # and so did those that a lying disk only pretended to hold
                    same = node.alive and node.node_id == node_id
                    if same and not node.disk.broke_promises:
                        world.violation("lost-reservation", (node,), key)
            elif placing.changed_us + REMEMBER_US < now and placing.state not in UNDER_WAY:
                over.append(key)
        for key in over:
            del self._workload.open[key]

    # --- the end ----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Look a last time, and judge what must have come right by now."""
        world = self._world
        self.audit()
        self.placement.finish()
        self.convergence.look()
        since_us = world.engine.now - world.calm_since_us
        if since_us < LIVENESS_US or any(is_frozen(node) for node in world.candidates):
            return
        if self.convergence.converged_us is None:
            nodes, detail = self.convergence.why()
            world.violation("not-converged", nodes, f"{since_us // SECOND} s after: {detail}")
        for problem in self.convergence.tree_problems():
            world.violation("tree-invalid", (), problem)
        owners = self._owners_by_cell()
        for record in self.convergence.records.values():
            self._check_owner(record, owners.get(record.cell, []))
        self._check_placing()

    def _check_placing(self) -> None:
        """What was asked of sound peers lately was answered, by a place or a reasoned no."""
        since_us = self._world.engine.now - PLACING_US
        lately = [p for p in self._workload.open.values() if p.changed_us >= since_us]
        excused = self.placement.excused
        failed = sum(p.state in (FAILED, DOUBTFUL) and p.key not in excused for p in lately)
        if failed > 1 + len(lately) // 10:
            detail = f"{failed} of {len(lately)} placements of late found no answer"
            self._world.violation("cannot-place", (), detail)

    def _owners_by_cell(self) -> dict[int, list[Node]]:
        """Return who owns which cell: one look at each peer, for there are many cells to judge."""
        found: dict[int, list[Node]] = {}
        for node in self._world.living():
            for cell in cells_of(node).leases.ownerships:
                if owns(node, cell):
                    found.setdefault(cell, []).append(node)
        return found

    def _check_owner(self, record: CellRecord, owners: list[Node]) -> None:
        world = self._world
        sound = [n for n in owners if n.index not in world.abandoned]
        if len(sound) > 1 or not owners or (len(owners) > 1 and not world.abandoned):
            detail = f"cell {record.cell} of level {record.level} has {len(owners)} owners"
            self._world.violation("owner-missing", owners, detail)
