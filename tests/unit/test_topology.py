"""The path store: newer replaces older, and two that differ can tell what the other lacks."""

from fabric.machine import Contact
from fabric.tree.topology import PathStore
from fabric.wire.tree import CellRecord, Order, Owner, Path, Topo

HOSTS = [Contact(n, f"tcp://127.0.0.1:{n}") for n in range(1, 9)]


def leaf(cell: int, version: int, hosts: list[int], parent: int) -> CellRecord:
    order = Order(1, 1, version)
    members = tuple(HOSTS[h - 1] for h in hosts)
    return CellRecord(cell, 0, parent, order, order, 0, members, (), members[:1])


def inner(cell: int, version: int, children: list[int], parent: int = 0) -> CellRecord:
    order = Order(1, 1, version)
    members = tuple(Contact(c, "") for c in children)
    return CellRecord(cell, 1, parent, order, order, 0, members, (), (HOSTS[0],))


def topo(version: int) -> Topo:
    return Topo(Order(1, 1, version), 5, HOSTS[0], 3, 4)


def store(node_id: int, *records: CellRecord) -> PathStore:
    paths = PathStore(node_id)
    paths.adopt(Path(topo(1), records, ()))
    return paths


def test_the_path_leads_from_the_leaf_that_lists_us_to_the_root() -> None:
    paths = store(1, inner(3, 1, [1, 2]), leaf(1, 1, [1, 2], 3), leaf(2, 1, [3, 4], 3))
    assert paths.path == (1, 3)
    assert paths.complete and paths.placed
    assert 2 not in paths.records  # not ours


def test_older_records_change_nothing_and_newer_ones_are_named() -> None:
    paths = store(1, leaf(1, 5, [1, 2], 0))
    assert paths.adopt(Path(None, (leaf(1, 4, [1], 0),), ())) is None
    fresh = paths.adopt(Path(topo(1), (leaf(1, 6, [1, 2, 3], 0),), ()))
    assert fresh is not None
    assert fresh.topo is None
    assert [r.order.version for r in fresh.records] == [6]


def test_of_two_leaves_that_list_us_the_later_write_is_home() -> None:
    paths = store(1, leaf(1, 5, [1, 2], 0))
    paths.adopt(Path(None, (leaf(2, 7, [1, 3], 0),), ()))
    assert paths.leaf == 2
    stale = store(1, leaf(2, 7, [1, 3], 0))
    stale.adopt(Path(None, (leaf(1, 5, [1, 2], 0),), ()))
    assert stale.leaf == 2


def test_a_record_that_drops_us_leaves_us_unplaced_but_on_the_old_path() -> None:
    paths = store(1, leaf(1, 5, [1, 2], 0))
    paths.adopt(Path(None, (leaf(1, 6, [2], 0),), ()))
    assert not paths.placed
    assert paths.path == (1,)


def test_owners_are_ordered_by_electorate_then_term() -> None:
    paths = store(1, leaf(1, 5, [1, 2], 0))
    old, new = Order(1, 1, 1), Order(1, 1, 2)
    assert paths.adopt(Path(None, (), (Owner(1, old, 9, HOSTS[0]),)))
    assert paths.adopt(Path(None, (), (Owner(1, old, 8, HOSTS[1]),))) is None
    assert paths.adopt(Path(None, (), (Owner(1, new, 2, HOSTS[1]),)))
    assert paths.owners[1].contact == HOSTS[1]


def test_digests_agree_from_the_common_cell_up_and_differ_where_something_differs() -> None:
    a = store(1, inner(3, 1, [1, 2]), leaf(1, 1, [1, 2], 3))
    b = store(3, inner(3, 1, [1, 2]), leaf(2, 1, [3, 4], 3))
    assert a.digest(3) == b.digest(3) != 0
    b.adopt(Path(None, (inner(3, 2, [1, 2, 4]),), ()))
    assert a.digest(3) != b.digest(3)


def test_each_sends_what_the_other_lacks() -> None:
    a = store(1, inner(3, 9, [1, 2]), leaf(1, 1, [1, 2], 3))
    b = store(2, inner(3, 1, [1, 2]), leaf(1, 4, [1, 2, 5], 3))
    lacking, behind = a.compare(1, b.stamps(1))
    assert lacking is not None and [r.cell for r in lacking.records] == [3]
    assert behind
    back, _ = b.compare(1, a.stamps(1))
    assert back is not None and [r.cell for r in back.records] == [1]
    b.adopt(lacking)
    a.adopt(back)
    assert a.digest(1) == b.digest(1)
    assert a.compare(1, b.stamps(1)) == (None, False)
