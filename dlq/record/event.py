"""The event in a letter."""

import sys

from unlost.dlq.record.letter import Letter
from unlost.listener.core.codec import is_coded
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import Edited, Event, parse

ENCODED = "it is encrypted, and can only be read with the CODEC and the keys of its listeners"


def event_of(letter: Letter, *, max_bytes: int, edited: bytes | None = None) -> Event:
    """The letter's event, or its newest version, parsed by the current rules. Raises ``InvalidEvent``."""
    if edited is None and letter.coded is not None:
        raise InvalidEvent(ENCODED, event_id=letter.event_id)
    if edited is not None:
        event = parse(edited, max_bytes=max_bytes)
        if is_coded(event.payload):
            raise InvalidEvent(ENCODED, event_id=letter.event_id)
        if letter.event_id not in (None, event.event_id):
            raise InvalidEvent(f"the letter is of event {letter.event_id!r}, and its edit is of {event.event_id!r}")
        return event
    if letter.raw_length is not None:
        raise InvalidEvent(f"of a frame of {letter.raw_length:,} bytes the letter holds the beginning alone")
    event = parse(letter.event or letter.raw or b"", max_bytes=max_bytes)
    if letter.event is not None and letter.event_id not in (None, event.event_id):
        raise InvalidEvent(f"the letter is of event {letter.event_id!r}, and its text is of {event.event_id!r}")
    return event


def content_digest(letter: Letter, event: Event) -> bytes:
    """The digest of the plain content of a letter's event."""
    return event.digest if letter.coded is None else bytes.fromhex(letter.coded.sha256)


def edited_as(letter: Letter, version: int) -> Edited | None:
    """The version from which the row of a letter's event was stored; None for version 1."""
    if version == 1:
        return None
    try:
        original = content_digest(letter, parse(letter.event, max_bytes=sys.maxsize)) if letter.event else None
    except InvalidEvent:  # what today's rules refuse does not come again as an event
        original = None
    return Edited(version, original)
