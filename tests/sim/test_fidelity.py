"""The scenario of the fidelity benchmark, simulated: what a quiet tree sends is arithmetic."""

from __future__ import annotations

from benchmarks.fidelity import virtual
from benchmarks.fidelity.plan import KILLS, PEERS


def test_a_quiet_tree_sends_what_its_form_says() -> None:
    seen = virtual.run(1)
    assert seen.formed_s is not None
    assert (sum(seen.shape), len(seen.shape) + 1) == (PEERS, seen.cells)
    places = PEERS + len(seen.shape)  # one in a leaf cell each, and the leaf cells' speakers
    sent = seen.window.sent
    assert sent["Ping"] == sent["Ack"] == 30 * places
    assert sent["SyncAsk"] == 3 * places
    assert sent["LeaseAsk"] == 50 * 3 * seen.cells
    assert sent["LeaseGrant"] == sent["LeaseAsk"] - 50 * seen.seated
    assert sent["Inquest"] == sent["Here"] > 0  # the chairman asks whether anybody hears it
    assert len(sent) == 7
    assert (len(seen.takeovers_s), seen.unfilled) == (KILLS, 0)
