"""What `make compiled` puts in place of plain modules, as text; that it counts the same is tested
where it is built (tests/sim/test_compiled.py)."""

import dataclasses

from sim import native_marks
from sim.explicit import with_inits

SOURCE = '''
from dataclasses import dataclass, field


@dataclass(slots=True)
class Usual:
    """A message."""

    left: int
    right: tuple[int, ...] = ()

    def both(self) -> int:
        return self.left + len(self.right)


@dataclass(frozen=True, slots=True)
class Frozen:
    left: int


@dataclass(slots=True)
class Odd:
    left: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Empty:
    """Nothing to say."""


class Other:
    left: int
'''


def test_dataclasses_get_their_init_written_out_and_stay_what_they_are() -> None:
    text = with_inits(SOURCE)
    assert text.count("def __init__(self, left: int, right: tuple[int, ...] = ()) -> None:") == 1
    assert text.count("def __init__") == 1  # neither frozen, nor odd, nor empty, nor no dataclass
    scope: dict[str, type] = {"__name__": "written"}
    exec(text, scope)
    usual = scope["Usual"]
    assert usual(1, right=(2,)) == usual(1, (2,)) != usual(1)
    assert dataclasses.replace(usual(1), left=3).both() == 3
    assert repr(usual(4)) == "Usual(left=4, right=())"
    assert scope["Odd"]().left == []


def test_all_compiled_messages_get_a_marker_and_others_do_not() -> None:
    text = native_marks.source(["fabric.wire.gossip"])
    assert "class _Ping(Marker):" in text
    assert "acc = lane(acc, self.news.many(message.news) if message.news else EMPTY)" in text
    assert "acc = lane(acc, 1 if message.dead else 0)" in text
    assert "LeaseAsk" not in text
