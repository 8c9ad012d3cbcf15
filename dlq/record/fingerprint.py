"""Fingerprints: twelve hex digits that equal failures share. Pure.

Failures share a fingerprint if these are equal: the reason, the error's type, its SQLSTATE, the stage, and the message
without its variable parts (numbers, ids, addresses, quoted text). If an error is about names (a missing field, a
column), quoted names stay, unless they are text of the event. The event's type does not count: a database outage is one
failure, whatever the types of the events.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import Event, decode

MOST_VALUES = 200
SHORTEST, LONGEST = 3, 200
"""Shorter values may be in a message by chance. Longer ones are rarely quoted in full."""

ABOUT_NAMES = frozenset(
    ("KeyError", "AttributeError", "NameError", "UnboundLocalError", "TypeError", "ImportError", "ModuleNotFoundError")
)
"""Errors whose messages quote names from the program."""
NAMING_CLASSES = ("23", "42")
"""Classes of SQLSTATE whose messages quote a constraint, a column or a table."""

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
    """Twelve hex digits shared by equal failures, whatever ids and numbers are in their messages."""
    values = () if event is None else _values_of(event)
    names = error_type in ABOUT_NAMES or (sqlstate or "").startswith(NAMING_CLASSES)
    parts = (reason, error_type, normalised(message, values, names=names), sqlstate or "", stage)
    return hashlib.sha256("\x1f".join(map(plain, parts)).encode()).hexdigest()[:12]


def normalised(message: str, values: Iterable[str] = (), *, names: bool = False) -> str:
    """The message without the parts that vary between two cases of the same failure.

    ``values``: texts from the event. ``names``: keep quoted names, unless they are among ``values``.
    """
    known = frozenset(values)
    message = _QUOTED.sub(lambda found: _quoted(found, known, names=names), message)
    for value in sorted(known, key=len, reverse=True):
        if value in message and not _WORD.fullmatch(value):  # compiling a pattern is slow, so it is rare
            message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", message)
    for pattern, word in (
        (_URL, r"\1/…"), (_MAIL, "#"), (_KEY_VALUE, "=(…)"), (_UUID, "#"), (_HEX, "#"), (_ID, "#"), (_DIGITS, "#"),
    ):  # fmt: skip
        message = pattern.sub(word, message)
    return " ".join(message.split())


def plain(text: str) -> str:
    """Text that UTF-8 can encode: a lone surrogate becomes its escape sequence."""
    return text.encode("utf-8", "backslashreplace").decode()


def _quoted(found: re.Match[str], known: frozenset[str], *, names: bool) -> str:
    text = next(group for group in found.groups() if group is not None)
    return f"'{text}'" if names and _NAME.fullmatch(text) and text not in known else "'…'"


def _values_of(event: Event) -> list[str]:
    """The texts in an event that a message may quote."""
    found = [event.event_id]
    try:
        payload = decode(event.payload)
    except InvalidEvent:  # unreadable, so no message quotes from it
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
