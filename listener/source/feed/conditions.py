"""Conditions on a message: ``{ type = ["match", "last_match"] }``, ``"42*"`` for text, or a list of these. Pure.

A table holds if each of its paths has one of its values; ``"*"`` stands for any value but null. A text holds if the
message is that text, or begins with it, if it ends with ``*``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from unlost.listener.source.feed.paths import Path, path_of

ANY_VALUE = "*"
Holds = Callable[[bytes, Sequence[Any]], bool]
"""Whether a condition holds for a message and its values."""


@dataclass(frozen=True, slots=True)
class PathCondition:
    """A path, and the values that hold there; None: any but null."""

    path: Path
    values: frozenset[Any] | None

    def holds(self, value: Any) -> bool:
        """Whether this value of the path holds."""
        if self.values is None:
            return value is not UNSET and value is not None
        try:
            return value in self.values
        except TypeError:  # an object or an array
            return False

    def bind(self, slot: int) -> "Holds":
        """Return the test of a message whose value of the path has this index."""
        allowed = self.values
        if allowed is None:
            return lambda _, values: self.holds(values[slot])

        def is_allowed(_: bytes, values: Sequence[Any]) -> bool:
            try:
                return values[slot] in allowed
            except TypeError:  # an object or an array
                return False

        return is_allowed


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds if one of its alternatives does. Each is a text, or a set of paths that must all match."""

    texts: tuple[bytes, ...] = ()
    beginnings: tuple[bytes, ...] = ()
    tables: tuple[tuple[PathCondition, ...], ...] = ()

    @property
    def paths(self) -> list[Path]:
        """All paths that it reads."""
        return [fits.path for table in self.tables for fits in table]

    def holds_for_text(self, message: bytes) -> bool:
        """Whether the message holds by its text alone."""
        return message in self.texts or (bool(self.beginnings) and message.startswith(self.beginnings))

    def bind(self, slot_of: Callable[[Path], int]) -> Holds:
        """Return the test of a message; ``slot_of`` gives the index of each path."""
        tables = [[(slot_of(fits.path), fits) for fits in table] for table in self.tables]
        by_text = bool(self.texts or self.beginnings)
        if not by_text and len(tables) == 1 and len(tables[0]) == 1:  # as most are
            slot, fits = tables[0][0]
            return fits.bind(slot)
        return lambda message, values: (
            (by_text and self.holds_for_text(message))
            or any(all(fits.holds(values[slot]) for slot, fits in table) for table in tables)
        )


def condition_of(given: Any) -> Condition:
    """Read a condition of a profile; ``ValueError`` if it is not valid."""
    alternatives = given if isinstance(given, list) else [given]
    if not alternatives:
        raise ValueError("a condition needs at least one alternative")
    texts = [one for one in alternatives if isinstance(one, str)]
    tables = [one for one in alternatives if isinstance(one, dict)]
    if len(texts) + len(tables) < len(alternatives) or not all(tables) or "" in texts:
        raise ValueError('a condition is written { path = "value" } or "text"')
    return Condition(
        tuple(one.encode() for one in texts if not one.endswith("*")),
        tuple(one[:-1].encode() for one in texts if one.endswith("*")),
        tuple(tuple(_fits(path, value) for path, value in table.items()) for table in tables),
    )


def _fits(path: str, value: Any) -> PathCondition:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int | float | bool) for one in values):
        raise ValueError(f"{path} is compared with texts, numbers, true and false only")
    if ANY_VALUE in values:
        return PathCondition(path_of(path), None)
    return PathCondition(path_of(path), frozenset(str(one) if isinstance(one, float) else one for one in values))
