"""What a mutant is: a realistic bug as a small textual patch, and how it is put into a copy.

Each edit names a file, the text that stands there exactly once, and what replaces it.  Text that
is not found, or found twice, is an error and no mutant: so the catalogue cannot rot unnoticed
while the protocol moves on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Where a mutant is hunted: in one of the arenas for whole fabrics of peers
#: (:mod:`sim.mutants.arenas`), or among the replicas of one shard of the store, whose small world
#: is part of the tests.
SWARM: Final = "swarm"
RUMOURS: Final = "rumours"
WHISPERS: Final = "whispers"
DECREES: Final = "decrees"
ERRANDS: Final = "errands"
DISKS: Final = "disks"
MARKETS: Final = "markets"
HAUNTS: Final = "haunts"
THRONES: Final = "thrones"
STORE: Final = "store"


class StaleMutant(Exception):
    """A mutant's text does not stand in its file exactly once."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace ``old`` by ``new`` in ``file`` (from the root of the checkout)."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug. ``breaks`` says in one line which promise it breaks."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    arena: str = SWARM

    def apply(self, root: Path) -> None:
        """Put the bug into the copy at ``root``. Raises :class:`StaleMutant`."""
        for edit in self.edits:
            path = root / edit.file
            text = path.read_text(encoding="utf-8")
            found = text.count(edit.old)
            if found != 1:
                raise StaleMutant(
                    f"{self.name}: its text stands {found} times in {edit.file}, not once; "
                    "bring the catalogue (sim/mutants) up to date with the code"
                )
            path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Absent:
    """A bug of the list that cannot be planted yet, and why."""

    name: str
    why: str


def mutant(name: str, breaks: str, file: str, old: str, new: str, arena: str = SWARM) -> Mutant:
    """Return a mutant with a single edit, as most are."""
    return Mutant(name, breaks, (Edit(file, old, new),), arena)
