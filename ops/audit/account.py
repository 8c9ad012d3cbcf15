"""The books, as pure data: each accepted event stands in exactly one column, or something is wrong.

row: it is stored. letter: it is an unresolved dead letter. in flight: a listener holds it. waiting: it
stands behind the group's cursor, still to be read. Whatever is in none of them is *missing*; what is a
row and an unresolved letter at once, or more than one letter, is *doubled*.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """The sums so far, and the ids that need somebody's eyes."""

    accepted: int = 0
    rows: int = 0
    letters: int = 0
    in_flight: int = 0
    waiting: int = 0
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    damaged_lines: int = 0

    @property
    def is_balanced(self) -> bool:
        """Whether every accepted event is in exactly one place, and every letter could be read."""
        return not (self.missing or self.doubled or self.damaged_lines)

    def counts(self) -> dict[str, int]:
        """Each column's sum."""
        return {
            "accepted": self.accepted,
            "rows": self.rows,
            "letters": self.letters,
            "in_flight": self.in_flight,
            "waiting": self.waiting,
            "missing": len(self.missing),
            "doubled": len(self.doubled),
            "damaged_lines": self.damaged_lines,
        }

    def enter(self, event_ids: Iterable[str], rows: AbstractSet[str], letters: Mapping[str, int]) -> list[str]:
        """Enter what is a row or a letter; return the ids that are neither yet, in their order."""
        open_ids = []
        for event_id in event_ids:
            unresolved = letters.get(event_id, 0)
            if event_id in rows:
                self.rows += 1
            elif unresolved:
                self.letters += 1
            else:
                open_ids.append(event_id)
            if unresolved > (0 if event_id in rows else 1):
                self.doubled.append(event_id)
        return open_ids

    def close(self, open_ids: Iterable[str], in_flight: AbstractSet[str], waiting: AbstractSet[str]) -> None:
        """Enter what was left open, now that everybody has been asked."""
        for event_id in open_ids:
            if event_id in in_flight:
                self.in_flight += 1
            elif event_id in waiting:
                self.waiting += 1
            else:
                self.missing.append(event_id)
