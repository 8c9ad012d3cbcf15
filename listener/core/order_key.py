"""The key of an event: events of one key are processed one at a time, in the order of their source. Pure.

A key is a text or a whole number at a path in the event, such as ``payload.account_id``. An event without one is free:
it has no order. The name of its source is part of a key, because two sources have no order in common.
"""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from unlost.listener.core.event import Event

PATH = r"[A-Za-z_][\w-]*(\.[\w-]+){0,7}"
"""The form of a path: names with dots between them."""
LONGEST = 256
"""A longer key is replaced by its digest, so that keys stay small in memory and in an index."""

AfterLetter = Literal["park", "continue", "stop"]
"""What later events of a key do once one is a letter: wait as letters, go on, or wait while nothing is read."""

_WHOLE_NUMBER = re.compile(rb"-?[0-9]+")
_text = msgspec.json.Decoder(str)

KeyOf = Callable[[Event, str | None], str | None]
"""Returns the key of an event of this source; None if it has none."""
AfterLetterOf = Callable[[str | None], AfterLetter]
"""Returns the policy of events of this type."""


def key_reader(path: str) -> KeyOf:
    """Return what reads the key at this path."""
    find = value_reader(path)

    def key_of(event: Event, source: str | None) -> str | None:
        value = find(event)
        return f"{value} of {source or '?'}" if value else None

    return key_of


def value_reader(path: str) -> Callable[[Event], str]:
    """Return what reads the text or whole number at this path; an empty text if there is none."""
    root, *names = path.split(".")
    find = _value_at(tuple(names)) if root == "payload" else _value_at((root, *names))

    def value_of(event: Event) -> str:
        if root == "type":
            return event.type or ""
        return find(event.payload if root == "payload" else event.other or b"")

    return value_of


def bounded(value: str) -> str:
    """Return a value as it is compared: a long one is replaced by its digest."""
    return value if len(value) <= LONGEST else f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"


def nearest_key(order_by: str, of_source: str, of_type: Callable[[str | None], str] | None) -> KeyOf | None:
    """Return what reads the key at the path that is declared nearest to the event: by its route, its source, or all.

    ``of_type`` returns the path that the handler declares for a type, or nothing. An event without a value at that path
    is free: no other path is tried. None if nothing is declared.
    """
    path = of_source or order_by
    general = key_reader(path) if path else None
    if of_type is None:
        return general
    readers: dict[str, KeyOf | None] = {"": general}

    def key_of(event: Event, source: str | None) -> str | None:
        declared = of_type(event.type)
        if declared not in readers:
            readers[declared] = key_reader(declared)
        read = readers[declared]
        return None if read is None else read(event, source)

    return key_of


def nearest_policy(general: AfterLetter, of_type: Callable[[str | None], AfterLetter | None] | None) -> AfterLetterOf:
    """Return what finds the policy of an event by its type: that of its route, or the group's."""
    if of_type is None:
        return lambda _: general
    return lambda event_type: of_type(event_type) or general


@functools.lru_cache(64)
def _value_at(names: tuple[str, ...]) -> Callable[[bytes], str]:
    """Return what finds the value below these names. Nothing else of the JSON is made into objects.

    It has types of its own, so it is made once for each path.
    """
    leaf: type = msgspec.Raw
    for name in reversed(names):
        leaf = msgspec.defstruct("Level", [("below", leaf | UnsetType, msgspec.field(name=name, default=UNSET))])
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(leaf)
    depth = len(names)

    def find(data: bytes) -> str:
        try:
            found = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return ""
        for _ in range(depth):
            if found is UNSET:
                return ""
            found = found.below
        return "" if found is UNSET else _plain(bytes(found))

    return find


def _plain(raw: bytes) -> str:
    """Return a text or a whole number as a bounded text; anything else is no key."""
    if raw[:1] == b'"':
        try:
            value = _text.decode(raw)
        except (msgspec.DecodeError, UnicodeError):
            return ""
    elif _WHOLE_NUMBER.fullmatch(raw):
        value = raw.decode()
    else:
        return ""
    return bounded(value)
