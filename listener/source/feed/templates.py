"""Templates: text with paths in braces, such as ``{product_id}:{trade_id}``. Pure.

Braces around anything but a path, as in JSON, are ordinary text. A value is escaped for where it is put: within a JSON
text, or within an address.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from unlost.listener.source.feed.paths import BadPath, Path, path_of

_HOLE = re.compile(r'\{((?:\$\.|\$(?=\[))?[A-Za-z_\[][\w.\[\]"-]*)\}')


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

    def filled(self, value_of: Callable[[str], str]) -> str:
        """Put a text in place of each path."""
        parts = [self.texts[0]]
        for hole, text in zip(self.holes, self.texts[1:], strict=True):
            parts += (value_of(hole), text)
        return "".join(parts)


def template_of(text: str) -> Template:
    """Parse a template."""
    pieces = _HOLE.split(text)
    holes = tuple(pieces[1::2])
    return Template(tuple(pieces[::2]), holes, tuple(map(path_of, holes)))


def identifier_of(text: str) -> Template:
    """Parse the value for an id or a type: a path alone, or a template; ``BadPath`` if it is neither."""
    if "{" not in text:
        path_of(text)
        return Template(("", ""), (text,), (path_of(text),))
    template = template_of(text)
    if not template.holes:
        raise BadPath(f"{text!r} has no path in braces")
    return template


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
