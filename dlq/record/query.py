"""Selects letters: filters over a letter and its state. Pure; ``now`` is an argument."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import msgspec

from unlost.dlq.record.containment import contains
from unlost.dlq.record.letter import epoch_second
from unlost.dlq.record.letter_state import LetterState
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import ErrorClass

Found = TypeVar("Found")
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)")
SHORT_ID = 8
"""The length of the end of a letter's id that tables show. It is enough to name the letter."""
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class _Typed(msgspec.Struct):
    type: str | None = None


class _WithPayload(msgspec.Struct):
    payload: Any = None


_typed = msgspec.json.Decoder(_Typed)
_with_payload = msgspec.json.Decoder(_WithPayload)


class Outlined(Protocol):
    """The part of a letter by which it is selected and counted: a whole letter has it, and an outline."""

    @property
    def letter_id(self) -> str:
        """The letter's id."""

    @property
    def event_id(self) -> str | None:
        """The event's id, if it has one."""

    @property
    def event(self) -> bytes | None:
        """The event as its publisher wrote it, if it is one."""

    @property
    def reason(self) -> Reason:
        """Why it became a letter."""

    @property
    def error_class(self) -> ErrorClass:
        """Whether its last failure may pass by itself."""

    @property
    def error_type(self) -> str:
        """The type of its last error."""

    @property
    def message(self) -> str:
        """The text of its last error."""

    @property
    def fingerprint(self) -> str:
        """The name that it shares with letters that failed alike."""

    @property
    def first_at(self) -> float:
        """When it failed first."""

    @property
    def last_at(self) -> float:
        """When it failed last."""

    @property
    def handler(self) -> str | None:
        """The handler that it failed in."""

    @property
    def group(self) -> str | None:
        """The group of the listener that wrote it."""


QUOTING = ("text", "payload")
"""Filters whose values may quote a payload: of these, the trail has the names alone."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Letters that match all filters. An empty filter matches every letter."""

    reasons: frozenset[str] = frozenset()
    error_classes: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    error_types: frozenset[str] = frozenset()
    fingerprint: str = ""
    since: float | None = None
    until: float | None = None
    ids: tuple[str, ...] = ()
    statuses: frozenset[str] = frozenset()
    begins: str = ""
    """The beginning of an event's or a letter's id."""
    text: str = ""
    """A part of the error, in any case."""
    payload: tuple[str, ...] = ()
    """JSON of which the payload contains one (see ``containment.py``)."""
    assigned: frozenset[str] = frozenset()
    rejected: bool = False
    """Whether a replay also takes letters that a handler rejected for good."""

    @property
    def asks_for_rejected(self) -> bool:
        """Whether rejected letters were asked for, by reason or by naming letters."""
        return self.rejected or "rejected" in self.reasons or bool(self.ids) or bool(self.fingerprint)

    @property
    def asks_for_quarantined(self) -> bool:
        """Whether quarantined letters were asked for, by state or by naming letters."""
        return "quarantined" in self.statuses or bool(self.ids)

    @property
    def everything(self) -> bool:
        """Whether no filter is set."""
        return self == Selection()

    def takes(self, letter: Outlined, state: LetterState) -> bool:
        """Whether the letter matches."""
        return (
            _in(letter.reason, self.reasons)
            and _in(letter.error_class, self.error_classes)
            and _in(letter.error_type, self.error_types)
            and _in(state.status, self.statuses)
            and _in(state.assigned, self.assigned)
            and letter.fingerprint.startswith(self.fingerprint)
            and (self.since is None or letter.last_at >= self.since)
            and (self.until is None or letter.last_at < self.until)
            and (not self.ids or any(names(one, letter) for one in self.ids))
            and (not self.types or event_type(letter) in self.types)
            and ((letter.event_id or "").startswith(self.begins) or letter.letter_id.startswith(self.begins))
            and self.text.lower() in f"{letter.error_type}: {letter.message}".lower()
            and (not self.payload or _holds(letter, self.payload))
        )


def names(text: str, letter: Outlined) -> bool:
    """Whether ``text`` is the event's id, the letter's, or the end of the letter's id that commands show.

    A shorter end is no name: many letters end so, and an event's id may be as short.
    """
    return text == letter.event_id or (len(text) >= SHORT_ID and letter.letter_id.endswith(text))


def event_type(letter: Outlined) -> str | None:
    """The type of the letter's event, if it has one."""
    found = _read(letter, _typed.decode)
    return found.type if found else None


def _read(letter: Outlined, decode: Callable[[bytes], Found]) -> Found | None:
    if letter.event is None:
        return None
    try:
        return decode(letter.event)
    except (msgspec.DecodeError, RecursionError):
        return None


def _holds(letter: Outlined, wanted: tuple[str, ...]) -> bool:
    found = _read(letter, _with_payload.decode)
    return found is not None and any(contains(found.payload, json.loads(one)) for one in wanted)


def moment(text: str, now: float) -> float:
    """An epoch second from ISO 8601 (UTC unless it names a zone) or from an age such as ``90m`` or ``7d``."""
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return now - float(ago[1]) * _SECONDS[ago[2]]
    try:
        return epoch_second(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 2026-01-31T12:00, or an age such as 90m, 12h, 7d") from None


def _in(value: str, wanted: frozenset[str]) -> bool:
    return not wanted or value in wanted
