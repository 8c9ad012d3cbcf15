"""Templates: text with paths in braces, such as ``{product_id}:{trade_id}``. Pure.

In a message, braces around anything but a path, as in JSON, are ordinary text, and so is all that a value from outside
holds. In an id or a type, each brace begins a path. A value of a message is escaped for where it is put: within a JSON
text, or within an address.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from unlost.listener.source.feed.paths import BadPath, Path, path_of
from unlost.listener.source.feed.variables import FILE, NAME

_HOLE = re.compile(r'\{((?:\$\.|\$(?=\[))?[A-Za-z_\[][\w.\[\]"-]*)\}')
_IDENTIFIER_HOLE = re.compile(r'\{((?:[^{}"]|"[^"]+")+)\}')
Fill = Callable[[str], str]
"""Returns the value from outside that ``${NAME}`` or ``file:PATH`` stands for."""


class MissingValue(ValueError):
    """A value that a template needs is missing, or is no text and no whole number."""

    def __init__(self, path: str, value: Any = UNSET) -> None:
        found = "nothing" if value is UNSET else "null" if value is None else _KINDS.get(type(value), "no text")
        super().__init__(f"{found} stands at {path}")


_KINDS = {dict: "an object", list: "an array", bool: "true or false"}


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and paths, alternating; the first and the last are texts."""

    texts: tuple[str, ...]
    holes: tuple[str, ...]
    paths: tuple[Path, ...]

    @property
    def has_other_braces(self) -> bool:
        """Whether a brace begins no path, and no ``${NAME}``."""
        return any("{" in NAME.sub("", text) for text in self.texts)

    def known(self, fill: Fill) -> "Template":
        """Fill in what comes from outside. No path is looked for in it."""
        if _is_file(self.texts[0]):
            return replace(self, texts=(fill(self.texts[0]),))
        return replace(self, texts=tuple(NAME.sub(lambda found: fill(found[0]), text) for text in self.texts))

    def filled(self, value_of: Callable[[str], str]) -> str:
        """Put a text in place of each path."""
        parts = [self.texts[0]]
        for hole, text in zip(self.holes, self.texts[1:], strict=True):
            parts += (value_of(hole), text)
        return "".join(parts)


def template_of(text: str) -> Template:
    """Parse a template as it is written. Braces within ``${NAME}``, or its default, are no paths."""
    variables = [found.span() for found in NAME.finditer(text)]
    texts, holes, at = list[str](), list[str](), 0
    for found in () if _is_file(text) else _HOLE.finditer(text):
        if not any(begin < found.start() < end for begin, end in variables):
            texts.append(text[at : found.start()])
            holes.append(found[1])
            at = found.end()
    return Template((*texts, text[at:]), tuple(holes), tuple(map(path_of, holes)))


def _is_file(text: str) -> bool:
    return text.startswith(FILE)


def identifier_of(text: str) -> Template:
    """Parse the value for an id or a type: a path alone, or a template; ``BadPath`` if it is neither."""
    if "{" not in text:
        path_of(text)
        return Template(("", ""), (text,), (path_of(text),))
    pieces = _IDENTIFIER_HOLE.split(text)
    holes = tuple(pieces[1::2])
    if not holes:
        raise BadPath(f"{text!r} has no path in braces")
    if "{" in "".join(pieces[::2]):
        raise BadPath(f"a brace in {text!r} begins no path; a path in braces is written {{data.trades[0].id}}")
    return Template(tuple(pieces[::2]), holes, tuple(map(path_of, holes)))


def word_of(value: Any, path: str) -> str:
    """Return a value as part of an id: a text, or a whole number."""
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise MissingValue(path, value)


def in_json(value: Any) -> str:
    """Return a value escaped for a JSON text, without quotes; a missing value is null."""
    if value is UNSET:
        return "null"
    encoded = msgspec.json.encode(value).decode()
    return encoded[1:-1] if isinstance(value, str) else encoded


def in_address(value: Any, path: str) -> str:
    """Return a value escaped for an address."""
    return quote(word_of(value, path), safe="")


def from_values(values: Mapping[str, Any]) -> Callable[[str], str]:
    """Fill a message with these values."""
    return lambda hole: in_json(values.get(hole, UNSET))
