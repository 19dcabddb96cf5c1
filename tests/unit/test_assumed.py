"""What was sent to a member counts until its summary shows it, whatever sum is remembered."""

from fabric.limits import ASSUMED_US
from fabric.machine import Contact
from fabric.placement.assumed import NONE_USED, SEEN_AFTER_US, Assumed, Used
from fabric.placement.request import PlacementRequest
from fabric.placement.tables import Child
from fabric.tree.summary import Summary, host_summary

NOW = 1_000_000_000
REQUEST = PlacementRequest("k", "vm", cpu=2, memory_mb=1024)


def summary(cpu_free: int) -> Summary:
    return host_summary(
        labels=(),
        cpu=16,
        cpu_free=cpu_free,
        memory_mb=65_536,
        memory_free_mb=65_536,
        disk_free_mb=0,
        vms=0,
    )


def child(told: Summary) -> Child:
    return Child(7, Contact(7, "tcp://127.0.0.1:7"), True, True, told, NOW)


def test_what_was_sent_adds_up_and_each_part_ends_in_its_own_time() -> None:
    assumed, row = Assumed(), child(summary(16))
    assert assumed.used(row, NOW) == NONE_USED
    assumed.sent(row, REQUEST, NOW)
    assert assumed.used(row, NOW) == Used(2, 1024, 1)
    assumed.sent(row, REQUEST, NOW + 10)
    assert assumed.used(row, NOW + 10) == Used(4, 2048, 2)
    assert assumed.used(row, NOW + ASSUMED_US) == Used(4, 2048, 2)
    assert assumed.used(row, NOW + ASSUMED_US + 1) == Used(2, 1024, 1)
    assert assumed.used(row, NOW + ASSUMED_US + 11) == NONE_USED


def test_a_new_summary_ends_it_once_it_can_show_it() -> None:
    assumed, before, after = Assumed(), child(summary(16)), child(summary(14))
    assumed.sent(before, REQUEST, NOW)
    assert assumed.used(after, NOW + SEEN_AFTER_US).requests == 1  # may be of before
    assert assumed.used(after, NOW + SEEN_AFTER_US + 1) == NONE_USED
    assumed.sent(before, REQUEST, NOW)
    equal = child(summary(16))  # another object that says the same
    assert assumed.used(equal, NOW + SEEN_AFTER_US + 1).requests == 1
