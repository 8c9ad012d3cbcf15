"""Frames of the source: each an event, or nothing valid; and the passage that begins with it."""

import hashlib
from collections.abc import Sequence

from unlost.listener.core.bulk import plain_events
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.errors import InvalidEvent, failure_of
from unlost.listener.core.event import Event, parse, too_large
from unlost.listener.core.in_flight import InFlight, invalid_claim
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.watermark import Position

FEW = 3
"""So many frames are read one by one, which for them is faster than together."""


def read_frames(frames: Sequence[bytes], *, max_bytes: int) -> Sequence[Event | InvalidEvent]:
    """What each is."""
    if len(frames) > FEW and (together := plain_events(frames, max_bytes=max_bytes)):
        return together
    return [_read_alone(frame, max_bytes) for frame in frames]


def last_cursor(found: Sequence[Event | InvalidEvent]) -> str | None:
    """The last cursor that these tell."""
    return next((one.cursor for one in reversed(found) if isinstance(one, Event) and one.cursor is not None), None)


def passage_of(
    what: Event | InvalidEvent, frame: bytes, position: Position | None, received_at: float, received_clock: float
) -> InFlight:
    """The passage of an event, or of a frame that is none: doomed, under a name made of its bytes."""
    if isinstance(what, Event):
        return InFlight(what, ClaimRequest(what.event_id, what.digest), position, received_at, received_clock)
    digest = hashlib.sha256(frame).digest()
    event = Event(what.event_id or "", None, b"", None, digest, None, frame)
    flight = InFlight(event, invalid_claim(digest), position, received_at, received_clock)
    flight.cause = DeadLetterCause("invalid", "receive")
    flight.attempts.append(failure_of(what, stage="receive", at=received_at))
    return flight


def passage_of_oversized(
    whole: Oversized, position: Position | None, received_at: float, received_clock: float, *, max_bytes: int
) -> InFlight:
    """The passage of a frame that was too large to be held: doomed, under a name made of all of its bytes."""
    event = Event("", None, b"", None, whole.digest, None, whole.head)
    flight = InFlight(event, invalid_claim(whole.digest), position, received_at, received_clock, whole=whole)
    flight.cause = DeadLetterCause("invalid", "receive")
    error = InvalidEvent(f"{too_large(whole.length, max_bytes)}; of it, the first {len(whole.head):,} are kept")
    flight.attempts.append(failure_of(error, stage="receive", at=received_at))
    return flight


def _read_alone(frame: bytes, max_bytes: int) -> Event | InvalidEvent:
    try:
        return parse(frame, max_bytes=max_bytes)
    except InvalidEvent as error:
        return error
