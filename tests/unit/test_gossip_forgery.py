"""Whatever one member says, in whatever form, no healthy other one is held for dead.

The member that lies is authentic (transports vouch for senders) and may say anything that fits on
the wire, as often as it likes, to whom it likes; at least two others live.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.machine import Contact
from fabric.units import MS, SECOND
from fabric.wire.gossip import (
    ALIVE,
    DEAD,
    LEFT,
    Ack,
    News,
    Ping,
    ProbeAnswer,
    ProbeFor,
    Suspect,
    Sync,
    SyncAsk,
)
from tests.unit.town import Town, contact

LIAR = 1
REST = 30 * SECOND

small = st.integers(0, 80)
keys = st.integers(1, 6)
addresses = st.sampled_from([f"m{n}" for n in (1, 2, 3, 4, 99)])
contacts = st.builds(Contact, keys | st.just(0), addresses) | keys.map(contact)
incarnations = st.builds(
    lambda life, word: (life << 16) + word,
    st.sampled_from([0, 1, 1, 1, 2, 7, 1 << 45]),
    st.sampled_from([0, 1, 2, 3, 40, 0xFFFF]),
)
news = st.builds(
    News, keys, incarnations, st.integers(0, 3), contacts, small | st.just(1 << 60), st.none()
)
tables = st.lists(news, max_size=6).map(tuple)
lies: st.SearchStrategy[Any] = st.one_of(
    st.builds(Ping, st.just(9), keys, small, small | st.just(1 << 40), small, tables),
    st.builds(Ack, st.just(9), keys, small, small, tables),
    st.builds(ProbeFor, st.just(9), small, keys),
    st.builds(ProbeAnswer, st.just(9), small),
    st.builds(Suspect, st.just(9), keys, incarnations, st.booleans()),
    st.builds(SyncAsk, st.just(9), small),
    st.builds(Sync, st.just(9), tables, st.booleans()),
)
speeches = st.lists(
    st.tuples(st.integers(2, 6), lies, st.sampled_from([0, 5 * MS, 300 * MS, SECOND])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(4, 6), speeches, st.integers(1, 4))
def test_no_words_of_one_member_evict_another(n: int, speech: list[Any], repeats: int) -> None:
    town = Town(n)
    town.run(3 * SECOND)
    for _ in range(repeats):
        for target, lie, pause in speech:
            if target <= n:
                town.mail(LIAR, contact(target), lie)
            town.run(pause)
    town.run(REST)
    for key, watcher in town.watchers.items():
        if key != LIAR:
            fallen = [(k, s) for k, s in watcher.states if k != LIAR and s in (DEAD, LEFT)]
            assert not fallen, f"{key} holds {fallen}"
            rows = town.cells[key].members.items()
            assert {k: m.state for k, m in rows if k != LIAR and m.state != ALIVE} == {}
