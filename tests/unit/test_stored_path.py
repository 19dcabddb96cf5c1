"""The stored path: what changed is written, and whatever can be read leads back to the tree."""

from fabric.machine import Contact
from fabric.tree.stored import StoredPath
from fabric.tree.topology import PathStore
from fabric.wire.codec import encode_record
from fabric.wire.tree import CellRecord, Order, Owner, Path, Topo

ME = Contact(1, "tcp://127.0.0.1:1")
OTHER = Contact(2, "tcp://127.0.0.1:2")


def record(cell: int, version: int, parent: int, members: tuple[Contact, ...]) -> CellRecord:
    order = Order(1, 1, version)
    level = 0 if members[0].address else 1
    return CellRecord(cell, level, parent, order, order, 0, members, (), (ME,))


LEAF = record(5, 1, 9, (ME, OTHER))
ROOT = record(9, 1, 0, (Contact(5, ""), Contact(6, "")))
TOPO = Topo(Order(1, 1, 1), 7, OTHER, 9, 10)
OWNER = Owner(5, LEAF.electorate, 3, OTHER)


def write(disk: dict[bytes, bytes], stored: StoredPath, paths: PathStore) -> list[bytes]:
    writes = stored.writes(paths)
    for key, value in writes:
        if value is None:
            del disk[key]
        else:
            disk[key] = value
    return [key for key, _ in writes]


def restored(disk: dict[bytes, bytes]) -> tuple[PathStore, StoredPath]:
    paths, stored = PathStore(ME.node_id), StoredPath()
    stored.restore(paths, disk)
    return paths, stored


def formed() -> PathStore:
    paths = PathStore(ME.node_id)
    paths.adopt(Path(TOPO, (LEAF, ROOT), (OWNER,)))
    return paths


def test_what_was_stored_is_found_again() -> None:
    disk: dict[bytes, bytes] = {}
    paths = formed()
    write(disk, StoredPath(), paths)
    found, _ = restored(disk)
    assert (found.topo, found.records, found.owners) == (paths.topo, paths.records, paths.owners)
    assert found.digest(5) == paths.digest(5)


def test_only_changed_records_are_written_and_those_off_the_path_deleted() -> None:
    disk: dict[bytes, bytes] = {}
    paths, stored = formed(), StoredPath()
    assert len(write(disk, stored, paths)) == 3
    paths.adopt(Path(None, (record(9, 2, 0, ROOT.members),), ()))
    assert write(disk, stored, paths) == [b"topo/path", b"topo/cell/%016x" % 9]
    paths.adopt(Path(None, (record(6, 3, 9, (OTHER, ME)),), ()))  # moved to another leaf
    assert paths.path == (6, 9)
    write(disk, stored, paths)
    assert sorted(disk) == [b"topo/cell/%016x" % 6, b"topo/cell/%016x" % 9, b"topo/path"]


def test_a_restarted_peer_deletes_what_its_former_life_stored() -> None:
    disk: dict[bytes, bytes] = {}
    write(disk, StoredPath(), formed())
    disk[b"topo/cell/%016x" % 9] = b"\xff"
    found, stored = restored(disk)
    assert found.path == (5,) and not found.complete
    found.adopt(Path(None, (record(6, 3, 11, (ME,)), record(11, 3, 0, (Contact(6, ""),))), ()))
    write(disk, stored, found)
    assert sorted(disk) == [b"topo/cell/%016x" % 6, b"topo/cell/%016x" % 11, b"topo/path"]


def test_unreadable_heads_and_whole_paths_in_one_key_are_taken_as_they_are() -> None:
    assert restored({b"topo/path": b"\x00"})[0].path == ()
    whole = encode_record(Path(TOPO, (LEAF, ROOT), (OWNER,)))
    assert restored({b"topo/path": whole})[0].path == (5, 9)
