"""The event in a letter."""

from unlost.dlq.record.letter import Letter
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import Event, parse


def event_of(letter: Letter, *, max_bytes: int) -> Event:
    """The letter's event, parsed by the current rules. Raises ``InvalidEvent``."""
    if letter.raw_length is not None:
        raise InvalidEvent(f"of a frame of {letter.raw_length:,} bytes the letter holds the beginning alone")
    event = parse(letter.event or letter.raw or b"", max_bytes=max_bytes)
    if letter.event is not None and letter.event_id not in (None, event.event_id):
        raise InvalidEvent(f"the letter is of event {letter.event_id!r}, and its text is of {event.event_id!r}")
    return event
