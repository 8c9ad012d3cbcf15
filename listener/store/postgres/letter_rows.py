"""Letters, records and states as columns of the table ``letters``, and the conditions of a selection. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import asyncpg
import msgspec

from unlost.dlq.record.fingerprint import plain
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_state import WAITING, Edit, LetterState, Record, Status
from unlost.dlq.record.query import SHORT_ID, Selection, event_type
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.ports.dead_letters import Burial

WHOLE_ID, WHOLE_FINGERPRINT = 28, 12
OF_A_BEGINNING = 4


class Listed(msgspec.Struct, frozen=True):
    """A letter to be listed. ``heal_after``: seconds until listeners may retry it by themselves; None: never."""

    letter: Letter
    line: bytes
    burial: Burial | None
    heal_after: float | None = None


def conditions(selection: Selection) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The conditions of a selection by name, each with its arguments: once, or once for each alternative."""
    for name in ("reasons", "error_classes", "types", "error_types", "statuses", "assigned"):
        if wanted := getattr(selection, name):
            yield name, (sorted(wanted),)
    if len(selection.fingerprint) >= WHOLE_FINGERPRINT:
        yield "fingerprint", (selection.fingerprint,)
    elif selection.fingerprint:
        yield "fingerprint_begins", (selection.fingerprint, selection.fingerprint)
    given: dict[str, Sequence[Any]] = {
        "since": [one for one in (selection.since,) if one is not None],
        "until": [one for one in (selection.until,) if one is not None],
        "begins": [_text(selection.begins)] * OF_A_BEGINNING if selection.begins else [],
        "text": [_text(selection.text)] if selection.text else [],
        "payload": selection.payload,
    }
    yield from ((name, tuple(values)) for name, values in given.items() if values)
    if selection.ids:
        ids = [_text(one) for one in selection.ids]
        whole = all(len(one) >= WHOLE_ID for one in selection.ids)
        yield ("whole_ids", (ids, ids)) if whole else ("id", tuple(value for one in ids for value in _of_id(one)))


def _of_id(text: str | None) -> tuple[str | None, ...]:
    """The arguments of the condition about one id: as an event's, and as the end of a letter's if it is long enough."""
    end = text if text is not None and len(text) >= SHORT_ID else None
    return text, end, end


def columns(letters: Sequence[Listed]) -> tuple[list[Any], ...]:
    """The columns of letters to be listed, in the order of the statement ``add``."""
    found = [one.letter for one in letters]
    return (
        [one.letter_id for one in found],
        [_text(one.event_id) for one in found],
        [_text(event_type(one)) for one in found],
        [one.reason for one in found],
        [one.error_class for one in found],
        [one.stage for one in found],
        [_text(one.error_type) for one in found],
        [_text(one.message) for one in found],
        [one.fingerprint for one in found],
        [one.handler for one in found],
        [_text(one.route) for one in found],
        [one.first_at for one in found],
        [one.last_at for one in found],
        [one.line for one in letters],
        [one.heal_after for one in letters],
    )


def _text(value: str | None) -> str | None:
    """A text that PostgreSQL can hold. The line has it as it was."""
    return None if value is None else plain(value).replace("\x00", "\ufffd")


def record_values(one: Record) -> tuple[Any, ...]:
    """The columns of a record, in the order of the statement ``log``."""
    made = one.edit
    edit = (None,) * 4 if made is None else (made.version, made.base, _text(made.how), made.event)
    return one.at, one.what, _text(one.detail), _text(one.error_type), _text(one.by), *edit, _text(one.followers)


def record_of(row: asyncpg.Record) -> Record:
    """The record of a row."""
    made = None if row["event"] is None else Edit(row["version"], row["base"], row["how"], row["event"])
    return Record(
        row["letter_id"], row["what"], row["at"], row["detail"], row["error_type"], row["done_by"], made,
        row["followers"],
    )  # fmt: skip


def newest_edits(
    records: Iterable[Record], before: Mapping[str, LetterState], now: Mapping[str, LetterState]
) -> dict[str, bytes]:
    """The events of versions that are the newest now, and were not before."""
    newest: dict[str, bytes] = {}
    for one in records:
        state = now.get(one.letter_id)
        if (
            state is not None
            and one.edit is not None
            and (one.edit.version, one.at) == (state.version, state.edited_at)
        ):
            newest[one.letter_id] = one.edit.event
    return {one: event for one, event in newest.items() if before[one].edited_at != now[one].edited_at}


def quoted(statuses: Iterable[Status]) -> str:
    """States as a list in SQL. They are names of our own."""
    return ", ".join(f"'{one}'" for one in sorted(statuses))


def only_waiting(statuses: frozenset[Status] | frozenset[str]) -> bool:
    """Whether only letters that wait are asked for: they have indexes of their own."""
    return bool(statuses) and statuses <= WAITING


def state_of(row: asyncpg.Record) -> LetterState:
    """The state of a letter, from a row with what ``state`` names."""
    return LetterState(
        row["status"], row["replays"], row["at"], row["detail"], row["state_error_type"], row["state_by"],
        row["reopened_at"], row["version"], row["edited_at"], row["assigned"], row["assigned_at"],
    )  # fmt: skip


def state_values(state: LetterState, anew: bool) -> tuple[Any, ...]:
    """The columns of a state, in the order of the statement ``change``."""
    return (
        state.status, state.replays, state.at, _text(state.detail), _text(state.error_type), _text(state.by),
        state.reopened_at, state.version, state.edited_at, _text(state.assigned), state.assigned_at, anew,
    )  # fmt: skip


def alike(found: Iterable[tuple[tuple[Any, ...], str]]) -> list[tuple[tuple[Any, ...], list[str]]]:
    """Letters by what they have in common, in the order of what happened."""
    known: dict[tuple[Any, ...], list[str]] = {}
    for values, letter_id in found:
        known.setdefault(values, []).append(letter_id)
    return list(known.items())


def unread(row: asyncpg.Record, about: asyncpg.Record, why: str) -> LetterEntry:
    """The columns of a letter whose line cannot be read."""
    letter = Letter(
        letter_id=about["letter_id"], event_id=about["event_id"], reason=about["reason"],
        error_class=about["error_class"], stage=about["stage"], event=None, raw=None, attempts=(),
        error_type=about["error_type"], message=f"this letter cannot be read: {why}", sqlstate=None,
        fingerprint=about["fingerprint"], first_at=about["first_at"], last_at=about["last_at"],
        instance=about["instance_id"], epoch=0, mode="normal", cursor=None, source=None, handler=about["handler"],
        route=about["route"],
    )  # fmt: skip
    return LetterEntry(letter, state_of(row), unreadable=why)
