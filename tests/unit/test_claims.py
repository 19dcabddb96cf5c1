"""Who may take which work, by versions and one's own clock."""

from __future__ import annotations

from nodes.roles.claims import BEAT_US, SILENCE_US, Claims, Item


def ids(items: list[Item]) -> list[str]:
    return [item.task_id for item in items]


def test_free_work_and_that_of_a_former_life_at_once() -> None:
    claims = Claims("w", "2")
    found = [Item("free", 1, None), Item("mine", 1, "w/1"), Item("other", 1, "x/1")]
    assert ids(claims.look(found, 0)) == ["free", "mine"]


def test_a_name_that_begins_like_mine_is_another_worker() -> None:
    assert Claims("w", "2").look([Item("a", 1, "w/x/1"), Item("b", 1, "ww/1")], 0) == []


def test_silence_is_measured_from_the_last_change_seen() -> None:
    claims = Claims("w", "2")
    assert claims.look([Item("a", 1, "x/1")], 0) == []
    assert claims.look([Item("a", 2, "x/1")], SILENCE_US) == []  # it lives
    assert claims.look([Item("a", 2, "x/1")], 2 * SILENCE_US - 1) == []
    assert ids(claims.look([Item("a", 2, "x/1")], 2 * SILENCE_US)) == ["a"]


def test_own_work_that_misses_beats_was_given_up() -> None:
    claims = Claims("w", "2")
    assert claims.look([Item("a", 1, "w/2")], 0) == []
    assert claims.look([Item("a", 1, "w/2")], BEAT_US) == []
    assert ids(claims.look([Item("a", 1, "w/2")], 2 * BEAT_US + 1)) == ["a"]


def test_work_that_is_gone_is_forgotten() -> None:
    claims = Claims("w", "2")
    claims.look([Item("a", 1, "x/1")], 0)
    claims.look([], 1)
    assert claims.look([Item("a", 1, "x/1")], SILENCE_US) == []
