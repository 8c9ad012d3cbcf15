"""The version that an edit makes of a letter's event. Pure.

An edit that is repeated starts from the version that it started from before. So it makes no second version, unless the
function has been corrected meanwhile, and a run that was interrupted can be run again.
"""

import sys
from collections.abc import Sequence
from typing import NamedTuple

from unlost.dlq.edit.change import CannotEdit, EventChange, same_json, with_id
from unlost.dlq.record.event import ENCODED
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_state import Edit, Record
from unlost.dlq.record.sidecar import MAX_EDITED_BYTES
from unlost.dlq.store.entries import LetterEntry
from unlost.listener.core.codec import is_coded
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import on_one_line, parse

MOST_VERSIONS = 100


class Proposal(NamedTuple):
    """A new version, and the event of the newest one before it."""

    entry: LetterEntry
    before: bytes
    edit: Edit


def original_of(letter: Letter) -> bytes | None:
    """The event as its publisher sent it; None if only its beginning was kept."""
    return None if letter.raw_length is not None else letter.event or letter.raw


def newest_of(history: Sequence[Record]) -> Edit | None:
    """The newest version in a history; None if there is none but the original."""
    edits = [(one.edit.version, one.at, one.edit) for one in history if one.edit is not None]
    return max(edits, key=lambda one: one[:2])[2] if edits else None


def proposed(entry: LetterEntry, history: Sequence[Record], change: EventChange) -> Proposal | None:
    """The version that a change makes now; None if nothing changes. Raises ``CannotEdit``."""
    if entry.letter.effect is not None:
        raise CannotEdit("it is of an effect: its event is a row, and the handler does not run again")
    newest = newest_of(history)
    if entry.letter.coded is not None or (newest is not None and _is_coded(newest.event)):
        raise CannotEdit(ENCODED)
    original = original_of(entry.letter)
    before = original if newest is None else newest.event
    base = 1 if newest is None else newest.base if newest.how == change.how else newest.version
    after = _checked(entry.letter, change(original if base == 1 else _version(history, base)))
    if before is not None and same_json(before, after):
        return None
    version = 2 if newest is None else newest.version + 1
    if version > MOST_VERSIONS:
        raise CannotEdit(f"it has {MOST_VERSIONS} versions already, and no more are kept")
    return Proposal(entry, before or b"", Edit(version, base, change.how, after))


def _is_coded(event: bytes) -> bool:
    try:
        return is_coded(parse(event, max_bytes=sys.maxsize).payload)
    except InvalidEvent:
        return False


def _version(history: Sequence[Record], version: int) -> bytes:
    found = newest_of([one for one in history if one.edit is not None and one.edit.version == version])
    if found is None:
        raise CannotEdit(f"its version {version}, from which the newest was made, is lost")
    return found.event


def _checked(letter: Letter, event: bytes) -> bytes:
    """The event on one line, if it is valid, is not too large, and has the letter's id."""
    if len(event) > MAX_EDITED_BYTES:
        raise CannotEdit(f"the edited event has {len(event):,} bytes, and {MAX_EDITED_BYTES:,} are allowed")
    if letter.event_id is not None:
        event = with_id(event, letter.event_id)
    try:
        parsed = parse(event, max_bytes=MAX_EDITED_BYTES)
    except InvalidEvent as error:
        raise CannotEdit(f"the edited event is not valid: {error}") from None
    if letter.event_id not in (None, parsed.event_id):
        raise CannotEdit(
            f"an edit keeps the id of the event, {letter.event_id!r}, and this one made {parsed.event_id!r}"
        )
    return on_one_line(event)
