"""A tree of which only a sample is there behaves, where it is dense, like a whole one."""

from __future__ import annotations

from fabric.units import SECOND
from sim.inspect import cells_of, owns, summary_of
from sim.scenario import Scenario
from sim.sparse import SparseWorld, hosts_meant, hosts_there

WIDTHS = (6, 4, 4, 3)


def test_everybody_in_a_sparse_tree_knows_an_owner_of_each_cell_and_is_counted() -> None:
    scenario = Scenario(hosts=hosts_there(WIDTHS), duration_s=20, preformed=True, checkers=False)
    world = SparseWorld(scenario, WIDTHS)
    world.begin()
    world.engine.run(20 * SECOND)
    assert hosts_meant(WIDTHS) == 288
    assert len(world.hosts) == 6 * 4 + 3 * 3 + 3 * 2
    assert len(world.dense) == 24
    paths = [cells_of(node).paths for node in world.hosts]
    assert {len(path.path) for path in paths} == {4}
    assert all(set(path.owners) == set(path.path) for path in paths)
    root = paths[0].root
    owner = next(node for node in world.hosts if owns(node, root))
    summary = summary_of(owner, root)
    assert summary is not None
    assert summary.hosts == len(world.hosts)
    assert len(paths[0].records[root].members) == 3
