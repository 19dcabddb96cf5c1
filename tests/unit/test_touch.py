"""Whether a chairman is heard: by most of those it asks, or it leaves the chair."""

from __future__ import annotations

from fabric.machine import Contact, ListSink
from fabric.settings import Settings
from fabric.tree.planner import Plan
from fabric.tree.touch import ABSTAIN_US, ASK_US, LATELY_US, SOON_US, STAY_US, Touch
from fabric.units import SECOND

ME = 1000


class Fabric:
    """A chairman's touch with ``hosts`` hosts, of which some hear it and answer."""

    def __init__(self, hosts: int, hear: int) -> None:
        self.plan = Plan(Settings(leaf_min=2, leaf_max=4))
        self.plan.add_hosts([Contact(n, f"h{n}") for n in range(1, hosts + 1)])
        self.hear = range(1, hear + 1)
        self.touch = Touch()
        self.now = 0
        self.touch.begin(0)

    def pass_time(self, until: int) -> None:
        while self.touch.due <= until:
            self.now = self.touch.due
            out = ListSink()
            self.touch.ask(ME, self.plan, self.now, out)
            for output in out.take():
                if output.args[0].node_id in self.hear:
                    self.touch.answered(output.args[0].node_id, self.now)
        self.now = until


def test_a_minority_is_not_enough() -> None:
    fabric = Fabric(hosts=12, hear=5)
    fabric.pass_time(LATELY_US - 1)
    assert not fabric.touch.lost(fabric.now)  # others may only be late to learn who is chairman
    assert not fabric.touch.may_judge()
    fabric.pass_time(LATELY_US)
    assert fabric.touch.lost(fabric.now)


def test_a_majority_is_enough() -> None:
    fabric = Fabric(hosts=12, hear=8)
    fabric.pass_time(60 * SECOND)
    assert fabric.touch.may_judge()
    assert not fabric.touch.lost(fabric.now)


def test_answers_of_long_ago_count_no_more() -> None:
    fabric = Fabric(hosts=12, hear=12)
    fabric.pass_time(60 * SECOND)
    fabric.hear = range(0)
    fabric.pass_time(60 * SECOND + LATELY_US + ASK_US)
    assert fabric.touch.lost(fabric.now)


def test_answers_nobody_asked_for_count_nothing() -> None:
    fabric = Fabric(hosts=12, hear=0)
    fabric.pass_time(5 * SECOND)
    for stranger in range(500, 600):
        fabric.touch.answered(stranger, fabric.now)
    assert not fabric.touch.sure()


def test_who_is_gone_from_the_plan_is_not_missed() -> None:
    fabric = Fabric(hosts=12, hear=4)
    fabric.pass_time(5 * SECOND)
    assert not fabric.touch.sure()
    fabric.plan.remove(list(range(5, 13)))
    fabric.pass_time(8 * SECOND)
    assert fabric.touch.sure()


def test_where_there_is_nobody_nobody_is_missed() -> None:
    fabric = Fabric(hosts=0, hear=0)
    fabric.pass_time(60 * SECOND)
    assert not fabric.touch.lost(fabric.now)


def test_who_had_to_resign_again_and_again_stays_and_judges() -> None:
    fabric = Fabric(hosts=12, hear=3)
    begun = 0
    for _ in range(2):
        fabric.pass_time(begun + LATELY_US)
        assert fabric.touch.lost(fabric.now)
        assert not fabric.touch.may_judge()
        fabric.touch.resign(fabric.now)
        begun = fabric.now + ABSTAIN_US
        fabric.touch.begin(begun)
    fabric.pass_time(begun + STAY_US - 1)
    assert fabric.touch.may_judge()
    assert not fabric.touch.lost(fabric.now)
    fabric.pass_time(begun + STAY_US)
    assert fabric.touch.lost(fabric.now)


def test_resignations_of_long_ago_are_forgotten() -> None:
    fabric = Fabric(hosts=12, hear=3)
    for at in (10 * SECOND, 40 * SECOND):
        fabric.touch.resign(at)
    fabric.touch.begin(40 * SECOND + SOON_US)
    fabric.pass_time(45 * SECOND + SOON_US)
    assert not fabric.touch.may_judge()
