"""Which failures a person would call the same: twelve hex digits that those share. Pure.

Equal are the reason, the error's type, its SQLSTATE, the stage, and the message without what differs from case to case:
numbers, ids, addresses, whatever it quotes. Where an error is about names (a missing field, a column), a name stays,
unless it is the event's own text. The event's type has no part in it: a database that is away is one failure, of
whatever type the events are.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import Event, decode

MOST_VALUES = 200
SHORTEST, LONGEST = 3, 200
"""A value shorter than this stands in messages by chance; of a longer one, nobody quotes all."""

ABOUT_NAMES = frozenset(
    ("KeyError", "AttributeError", "NameError", "UnboundLocalError", "TypeError", "ImportError", "ModuleNotFoundError")
)
"""Errors whose message quotes a name of the program's."""
NAMING_CLASSES = ("23", "42")
"""Classes of SQLSTATE whose message quotes a constraint, a column or a table."""

_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://[^\s/?#'\"]+)[^\s'\"]*", re.IGNORECASE)
_MAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]+")
_QUOTED = re.compile(r"\"([^\"]*)\"|(?<!\w)'([^']*)'|`([^`]*)`|«([^»]*)»|“([^”]*)”")
_NAME = re.compile(r"[A-Za-z_][A-Za-z_.]{0,39}")
_KEY_VALUE = re.compile(r"=\([^)]*\)")
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_HEX = re.compile(r"\b(?:0x[0-9a-f]+|(?=[0-9a-f]*[0-9])[0-9a-f]{8,})\b", re.IGNORECASE)
_ID = re.compile(r"(?<!\w)(?=[\w-]*\d)(?=[\w-]*[^\W\d_])\w[\w-]*")
_DIGITS = re.compile(r"\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[a-z]+")


def fingerprint(
    reason: str, error_type: str, message: str, sqlstate: str | None, stage: str, event: Event | None
) -> str:
    """Twelve hex digits that equal failures share, whatever ids and numbers their messages name."""
    values = () if event is None else _values_of(event)
    names = error_type in ABOUT_NAMES or (sqlstate or "").startswith(NAMING_CLASSES)
    parts = (reason, error_type, normalised(message, values, names=names), sqlstate or "", stage)
    return hashlib.sha256("\x1f".join(map(plain, parts)).encode()).hexdigest()[:12]


def normalised(message: str, values: Iterable[str] = (), *, names: bool = False) -> str:
    """A message without what differs between two cases of the same failure.

    ``values``: what the event says. ``names``: quoted names stay, where they are not among those.
    """
    known = frozenset(values)
    message = _QUOTED.sub(lambda found: _quoted(found, known, names=names), message)
    for value in sorted(known, key=len, reverse=True):
        if value in message and not _WORD.fullmatch(value):  # seldom: to make a pattern takes longer than all else
            message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", message)
    for pattern, word in (
        (_URL, r"\1/…"), (_MAIL, "#"), (_KEY_VALUE, "=(…)"), (_UUID, "#"), (_HEX, "#"), (_ID, "#"), (_DIGITS, "#"),
    ):  # fmt: skip
        message = pattern.sub(word, message)
    return " ".join(message.split())


def plain(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _quoted(found: re.Match[str], known: frozenset[str], *, names: bool) -> str:
    text = next(group for group in found.groups() if group is not None)
    return f"'{text}'" if names and _NAME.fullmatch(text) and text not in known else "'…'"


def _values_of(event: Event) -> list[str]:
    """The texts in an event, as far as a message may quote them."""
    found = [event.event_id]
    try:
        payload = decode(event.payload)
    except InvalidEvent:  # it cannot be read, so nobody quotes it
        payload = None
    for value in _texts(payload):
        if len(found) >= MOST_VALUES:
            break
        found.append(value)
    return [one for one in found if SHORTEST <= len(one) <= LONGEST]


def _texts(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
