"""Gossip in one cell: probes, suspicions, refutations, news."""

from __future__ import annotations

from dataclasses import replace

from fabric.gossip.members import Member, merge_news
from fabric.units import MS, SECOND
from fabric.wire.gossip import ALIVE, DEAD, LEFT, SUSPECT, News, Ping, Suspect
from tests.unit.town import HANDLERS, Town, contact, room


def test_everybody_is_probed_once_in_each_round() -> None:
    town = Town(8)
    town.run(5 * SECOND)
    town.sent = 0
    town.pinged.clear()
    town.run(14 * SECOND)
    pings_and_acks = 2 * 8 * 14
    assert pings_and_acks <= town.sent <= pings_and_acks * 5 // 4  # anti-entropy on top
    assert all(13 <= town.pinged[key] <= 15 for key in town.cells)
    assert town.states(of=3) == {ALIVE}


def test_a_killed_member_is_dead_to_all_within_four_rounds() -> None:
    town = Town(8)
    town.run(5 * SECOND)
    town.down.add(3)
    town.run(4 * SECOND)
    assert town.states(of=3) == {DEAD}
    for key in (1, 2, 4, 5, 6, 7, 8):
        assert town.states(of=key) == {ALIVE}


def test_news_of_load_reach_everybody_without_a_table_exchange() -> None:
    town = Town(16)
    town.run(3 * SECOND)
    town.cells[5].set_summary(room(7))
    town.run(5 * SECOND)
    told = [c.members[5].news.summary for k, c in town.cells.items() if k != 5]
    assert all(s is not None and s.cpu_free == 7 for s in told)


def test_a_broken_link_between_two_gets_nobody_removed() -> None:
    town = Town(6)
    town.cut = {(1, 2), (2, 1)}
    town.run(60 * SECOND)
    for key in town.cells:
        assert DEAD not in town.states(of=key)


def test_no_single_member_can_evict_another_whatever_it_says() -> None:
    town = Town(6)
    town.run(3 * SECOND)
    liar, victim = 1, 2
    incarnation = town.cells[victim].news.incarnation
    for _ in range(20):
        for key in (3, 4, 5, 6):
            lies = [
                Suspect(9, victim, incarnation, True),
                Ping(9, liar, 0, 0, 0, (News(victim, incarnation, DEAD, contact(2), 99, None),)),
                Ping(9, liar, 0, 0, 0, (News(victim, incarnation, LEFT, contact(2), 99, None),)),
            ]
            for lie in lies:
                name = HANDLERS[type(lie)]
                getattr(town.cells[key], name)(liar, lie, town.now, town.out)
                town.post(key)
        town.run(SECOND)
        incarnation = town.cells[victim].news.incarnation
    for watcher in town.watchers.values():
        assert (victim, DEAD) not in watcher.states
        assert (victim, LEFT) not in watcher.states


def test_a_suspect_refutes_by_a_higher_incarnation() -> None:
    town = Town(5)
    town.run(3 * SECOND)
    before = town.cells[2].news.incarnation
    town.isolate(2)
    for _ in range(40):
        town.run(50 * MS)
        if SUSPECT in town.states(of=2):
            break
    assert SUSPECT in town.states(of=2)
    town.cut = set()
    town.run(3 * SECOND)
    assert town.states(of=2) == {ALIVE}
    assert town.cells[2].news.incarnation > before


def test_a_pause_of_ours_makes_us_accuse_nobody() -> None:
    town = Town(5)
    town.run(3 * SECOND)
    sleeper = town.cells[1]
    town.down.add(1)
    town.run(600 * MS)
    town.down.remove(1)
    town.run(100 * MS)
    assert all(m.state == ALIVE for m in sleeper.members.values())


def test_a_new_life_under_a_higher_boot_id_replaces_the_old_one() -> None:
    town = Town(5)
    town.run(3 * SECOND)
    town.down.add(3)
    town.run(5 * SECOND)
    assert town.states(of=3) == {DEAD}
    reborn = town.add(3, boot=2)
    reborn.set_members([contact(k) for k in town.cells], (), town.now, town.out)
    town.down.remove(3)
    town.run(5 * SECOND)
    assert town.states(of=3) == {ALIVE}


def test_one_who_leaves_is_gone_at_once_and_not_suspected() -> None:
    town = Town(5)
    town.run(3 * SECOND)
    town.cells[3].leave(town.out)
    town.post(3)
    town.down.add(3)
    town.run(10 * MS)
    assert town.states(of=3) == {LEFT}


def test_only_the_record_decides_who_is_a_member() -> None:
    town = Town(4)
    town.run(3 * SECOND)
    stranger = News(77, 1 << 16, ALIVE, contact(77), 1, None)
    town.cells[1].merge(2, (stranger,), town.now, town.out)
    assert 77 not in town.cells[1].members


def test_merging_news_does_not_depend_on_their_order() -> None:
    pieces = [
        News(3, 1 << 16, ALIVE, contact(3), 4, room(4)),
        News(3, (1 << 16) + 1, ALIVE, contact(3), 2, room(2)),
        News(3, (1 << 16) + 1, SUSPECT, contact(3), 5, room(5)),
        News(3, 1 << 16, DEAD, contact(3), 1, room(1)),
    ]
    results = []
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]):
        news = News(3, 0, ALIVE, contact(3), 0, None)
        for i in order:
            news = merge_news(news, pieces[i])
        results.append(news)
    assert all(r == results[0] for r in results)
    assert results[0].state == SUSPECT
    assert results[0].seq == 5


def test_a_lonely_member_asks_where_it_belongs() -> None:
    town = Town(3)
    town.run(2 * SECOND)
    town.down |= {2, 3}
    town.run(20 * SECOND)
    assert town.watchers[1].alone >= 1


def test_one_who_forgot_how_far_it_had_counted_goes_on_from_what_others_remember() -> None:
    town = Town(4)
    town.run(3 * SECOND)
    for cpu in (9, 8, 7):
        town.cells[2].set_summary(room(cpu))
    town.run(5 * SECOND)
    again = town.add(2, boot=1)  # the same life: its place in the cell came and went
    again.speak(replace(again.news, seq=0))  # and its clock was set back meanwhile
    again.set_members([contact(k) for k in town.cells], (), town.now, town.out)
    again.set_summary(room(3))
    town.run(25 * SECOND)  # anti-entropy tells it
    told = [c.members[2].news.summary for k, c in town.cells.items() if k != 2]
    assert all(s is not None and s.cpu_free == 3 for s in told)


def test_who_slept_accuses_nobody_and_asks_whether_it_still_is_a_member() -> None:
    town = Town(5)
    town.run(3 * SECOND)
    town.down.add(1)
    town.run(30 * SECOND)
    for key in (2, 3, 4, 5):  # it is removed meanwhile, and nobody answers it any more
        town.cells[key].set_members([contact(k) for k in (2, 3, 4, 5)], (), town.now, town.out)
    town.down.remove(1)
    town.run(2500 * MS)
    assert town.watchers[1].awakenings == 1
    assert all(m.state == ALIVE for m in town.cells[1].members.values())
    assert any(town.watchers[key].strangers == [contact(1)] for key in (2, 3, 4, 5))


def test_suspicions_and_refutations_are_told_to_those_who_watch() -> None:
    town = Town(5)
    town.run(3 * SECOND)
    town.down.add(3)
    town.run(6 * SECOND)
    others = [k for k in town.watchers if k != 3]
    assert all(town.watchers[k].suspected_by[0][0] == 3 for k in others)
    accusers = town.cells[1].members[3].accusers
    assert len(accusers) >= 3 and set(accusers) <= set(others)
    suspect = Suspect(9, 5, town.cells[5].news.incarnation, False)
    town.cells[5].on_suspect(1, suspect, town.now, town.out)
    assert town.watchers[5].refutations == 1


def test_a_number_told_without_its_load_does_not_hide_the_load() -> None:
    old = News(2, 1 << 16, ALIVE, contact(2), 50, room(4))
    forged = News(2, 2 << 16, SUSPECT, contact(2), 70, None)  # of the next life, and loadless
    true = News(2, 2 << 16, ALIVE, contact(2), 70, room(9))
    for first, second in ((forged, true), (true, forged)):
        merged = merge_news(merge_news(old, first), second)
        assert (merged.state, merged.seq, merged.summary) == (SUSPECT, 70, room(9))
    rows = [Member(2, news, observer=False) for news in (forged, merged)]
    assert rows[0].remark() != rows[1].remark()  # or anti-entropy would not mend it
