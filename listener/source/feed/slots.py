"""Gives each path that a profile uses an index into the values of a message. Pure."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from unlost.listener.source.feed.conditions import Condition, condition_of
from unlost.listener.source.feed.forms import CONSTANT
from unlost.listener.source.feed.paths import Fields, Path, begins_at_the_whole, path_of
from unlost.listener.source.feed.templates import Fill, MissingValue, identifier_of, in_json, template_of, word_of

Values = Sequence[Any]


class Slots:
    """The paths that are read from one JSON text."""

    def __init__(self) -> None:
        self._paths: list[tuple[Path, bool]] = []

    def slot(self, path: Path, *, raw: bool = False) -> int:
        """Return the index of a path's value; ``raw``: as the text that was sent."""
        if (path, raw) not in self._paths:
            self._paths.append((path, raw))
        return self._paths.index((path, raw))

    def fields(self) -> Fields:
        """Make the reader of all of them."""
        return Fields([path for path, _ in self._paths], [at for at, (_, raw) in enumerate(self._paths) if raw])


class Test:
    """A condition, bound to the indexes of its values."""

    def __init__(self, given: Any, slots: Slots) -> None:
        self.given = bool(given)
        self.holds = (condition_of(given) if given else Condition()).bind(slots.slot)
        """Whether it holds for a message. No condition holds for none."""


class Filling:
    """A template of a message, bound to the indexes of its values."""

    def __init__(self, text: str, slots: Slots) -> None:
        self._written = written = template_of(text)
        self._template = written
        self._slots = {hole: slots.slot(path) for hole, path in zip(written.holes, written.paths, strict=True)}

    def renew(self, fill: Fill) -> None:
        """Fill in what comes from outside, anew."""
        self._template = self._written.known(fill)

    def filled(self, values: Values) -> str:
        """Fill it with the values of a message."""
        return self._template.filled(lambda hole: in_json(values[self._slots[hole]]))

    def is_complete(self, values: Values) -> bool:
        """Whether the message has each value."""
        return all(values[slot] is not UNSET and values[slot] is not None for slot in self._slots.values())


Word = Callable[[Values, Values], str]
"""Makes a text from the values of an item and of the whole message; ``MissingValue`` if one is missing."""


def word(text: str, item: Slots, whole: Slots) -> Word:
    """Bind the path or template of an id or a type. A path that begins with ``$`` leads from the whole message."""
    if text.startswith(CONSTANT):
        constant = text[len(CONSTANT) :]
        return lambda _, __: constant
    template = identifier_of(text)
    parts = [_part(hole, item, whole) for hole in template.holes]
    if len(parts) == 1 and template.texts == ("", ""):
        return parts[0]
    joined = _joined(template.texts, parts)
    if len(parts) == 2 and not any(map(begins_at_the_whole, template.holes)):
        one, other = (item.slot(path_of(hole)) for hole in template.holes)
        return _pair(template.texts, one, other, joined)
    return joined


def first_of(words: Sequence[Word]) -> Word:
    """Return a function that gives the first of these whose values are present."""
    if len(words) == 1:
        return words[0]

    def first(item: Values, whole: Values) -> str:
        for one in words[:-1]:
            try:
                return one(item, whole)
            except MissingValue:
                continue
        return words[-1](item, whole)

    return first


def _part(hole: str, item: Slots, whole: Slots) -> Word:
    if begins_at_the_whole(hole):
        slot = whole.slot(path_of(hole))
        return lambda _, message: word_of(message[slot], hole)
    slot = item.slot(path_of(hole))

    def part(values: Values, _: Values) -> str:
        value = values[slot]
        return value if type(value) is str else word_of(value, hole)

    return part


def _pair(texts: Sequence[str], one: int, other: int, otherwise: Word) -> Word:
    """Join two values of an item: the usual form of an id, a name and a number."""
    first, between, last = texts

    def pair(item: Values, whole: Values) -> str:
        name, number = item[one], item[other]
        if type(name) in WORDS and type(number) in WORDS:
            return f"{first}{name}{between}{number}{last}"
        return otherwise(item, whole)

    return pair


WORDS = frozenset((str, int))
"""The types of values that may be part of an id: see ``word_of``."""


def _joined(texts: Sequence[str], parts: Sequence[Word]) -> Word:
    first, *rest = texts

    def joined(item: Values, whole: Values) -> str:
        return first + "".join([f"{part(item, whole)}{text}" for part, text in zip(parts, rest, strict=True)])

    return joined


FURTHEST = 10**18
"""Numbers are nearer to zero than this: differences of larger ones are no numbers of PostgreSQL."""


def number_of(value: Any) -> int | None:
    """Return a whole number, even if it was sent as text; None for anything else."""
    if type(value) is int:
        return value if -FURTHEST < value < FURTHEST else None
    if type(value) is str and 0 < len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return None


BAD_JSON = (msgspec.DecodeError, UnicodeError, RecursionError)
"""The errors that msgspec raises for invalid JSON."""
