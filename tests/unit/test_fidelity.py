"""The comparison of real and simulated runs: what it sees in a run, and when it says no."""

from __future__ import annotations

from collections import Counter

from benchmarks.fidelity.account import Account, Window, asks_itself
from benchmarks.fidelity.plan import PEERS, TcpNamed, peers, scenario
from benchmarks.fidelity.report import Comparison, markdown
from fabric.machine import Contact
from fabric.wire.tree import CellRecord, Order

LEAF, ROOT = 7, 1


def contact(node_id: int) -> Contact:
    return Contact(node_id, f"tcp://127.0.0.1:{node_id}")


def account(pings: int = 3_000, takeover_s: float = 1.8, formed_s: float = 8.0) -> Account:
    seen = Account(2, 2)
    for node in (1, 2):
        seen.placed(node, LEAF)
        seen.state(formed_s, node, True, 2 if node == 1 else 0)
    seen.owned(5.0, 1, LEAF, 1)
    seen.owned_cell(True)
    seen.quiet()
    sent = Counter({"Ping": pings, "Rare": 3})
    seen.window.add(Window(sent, Counter(sent), 100_000, 1.0))
    seen.died(60.0, 1)
    seen.owned(60.0 + takeover_s, 2, LEAF, 2)
    return seen


def test_formed_is_when_all_have_their_place_and_the_root_counts_all_hosts() -> None:
    seen = Account(2, 2)
    seen.state(1.0, 1, True, 1)
    seen.state(2.0, 2, True, 0)
    assert seen.formed_s is None
    seen.state(3.0, 1, True, 2)
    assert seen.formed_s == 3.0
    seen.state(4.0, 2, False, 0)
    assert seen.formed_s is None
    seen.state(5.0, 2, True, 0)
    assert seen.formed_s == 5.0


def test_the_owner_of_a_leaf_cell_is_struck_and_the_next_one_ends_the_wait() -> None:
    seen = Account(3, 3)
    for node in (1, 2, 3):
        seen.placed(node, LEAF)
    seen.owned(1.0, 1, LEAF, 1)
    seen.owned(1.0, 1, ROOT, 1)  # the root is no leaf: its owner is struck as the leaf's
    assert seen.target() == 1
    seen.died(10.0, 1)
    assert (seen.target(), seen.unfilled) == (None, 1)
    seen.owned(10.5, 2, ROOT, 2)
    assert seen.unfilled == 1
    seen.owned(11.5, 3, LEAF, 2)
    assert (seen.takeovers_s, seen.target(), seen.unfilled) == ([1.5], 3, 0)


def test_leaf_cells_are_struck_in_turn() -> None:
    seen = Account(4, 4)
    for node, leaf in ((1, 7), (2, 7), (3, 8), (4, 8)):
        seen.placed(node, leaf)
    seen.owned(1.0, 1, 7, 1)
    seen.owned(1.0, 3, 8, 1)
    assert [seen.target() for _ in range(4)] == [1, 3, 1, 3]


def test_an_owner_asks_the_first_majority_of_the_seats() -> None:
    seats = tuple([contact(n) for n in range(1, 6)])
    record = CellRecord(LEAF, 0, ROOT, Order(1, 1, 1), Order(1, 1, 1), 1, seats, (), seats)
    assert [asks_itself(seat, record) for seat in seats] == [True, True, True, False, False]


def test_equal_runs_are_faithful() -> None:
    comparison = Comparison([account()], [account(), account(3_030)])
    assert comparison.troubles() == []
    assert "**Within the bounds.**" in markdown(comparison)


def test_each_figure_that_is_off_is_named() -> None:
    cases = {
        "Ping": account(pings=3_070),
        "owner killed": account(takeover_s=2.2),
        "start to formed": account(formed_s=6.0),
    }
    for name, simulated in cases.items():
        comparison = Comparison([account()], [simulated])
        assert any(t.startswith(name) for t in comparison.troubles()), name
        assert not comparison.as_dict()["ok"]
        assert "Not within" in markdown(comparison)


def test_rare_types_are_told_and_do_not_decide() -> None:
    simulated = account()
    simulated.window.sent["Rare"] = 6
    comparison = Comparison([account()], [simulated])
    assert [row.difference_percent for row in comparison.rates if row.name == "Rare"] == [100.0]
    assert comparison.troubles() == []


def test_windows_of_another_form_are_not_compared() -> None:
    other = account(pings=9_000)
    other.seated = 0
    assert Comparison([account()], [other, account()]).troubles() == []
    partly = Comparison([account(), other], [account()])
    assert (partly.unmatched, partly.troubles()) == (1, [])
    assert "form" in " ".join(Comparison([account()], [other]).troubles())


def test_runs_without_a_tree_or_with_a_cell_without_owner_are_named() -> None:
    simulated = account()
    simulated.state(70.0, 2, False, 0)
    simulated.died(71.0, 2)
    troubles = Comparison([account()], [simulated]).troubles()
    assert "1 simulated runs formed no tree" in troubles
    assert "1 simulated cells got no other owner" in troubles


def test_real_peers_are_those_of_the_simulators_world() -> None:
    world = TcpNamed(scenario(1))
    planned = peers(world)
    assert [plan.node_id for plan in planned] == [
        node.node_id for node in (*world.candidates, *world.hosts)
    ]
    assert len(planned) == PEERS == len({plan.name for plan in planned})
    assert [plan.name for plan in planned if plan.creates] == ["candidate-0"]
    assert all((plan.cpu == 0) == plan.candidate for plan in planned)
    assert {plan.at_s for plan in planned if plan.candidate} == {0.0, 0.1, 0.2}
