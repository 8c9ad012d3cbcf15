"""Frames of the source: each is read as an event or as invalid, and becomes an event in flight."""

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
"""Up to this number, reading frames one by one is faster than reading them together."""


def read_frames(frames: Sequence[bytes], *, max_bytes: int) -> Sequence[Event | InvalidEvent]:
    """Read each frame."""
    if len(frames) > FEW and (together := plain_events(frames, max_bytes=max_bytes)):
        return together
    return [_read_alone(frame, max_bytes) for frame in frames]


def last_of(cursors: Sequence[str | None]) -> str | None:
    """Return the last cursor among these."""
    return next((one for one in reversed(cursors) if one is not None), None)


def flight_of(
    what: Event | InvalidEvent,
    frame: bytes,
    position: Position | None,
    received_at: float,
    received_clock: float,
    cursor: str | None = None,
) -> InFlight:
    """Make an event in flight. An invalid frame is marked for burial, under a name made from its bytes."""
    if isinstance(what, Event):
        return InFlight(
            what, ClaimRequest(what.event_id, what.digest), position, received_at, received_clock, cursor=cursor
        )
    digest = hashlib.sha256(frame).digest()
    event = Event(what.event_id or "", None, b"", None, digest, frame)
    flight = InFlight(event, invalid_claim(digest), position, received_at, received_clock, cursor=cursor)
    flight.cause = DeadLetterCause("invalid", "receive")
    flight.attempts.append(failure_of(what, stage="receive", at=received_at))
    return flight


def flight_of_oversized(
    whole: Oversized, position: Position | None, received_at: float, received_clock: float, *, max_bytes: int
) -> InFlight:
    """Make the event in flight for an oversized frame: marked for burial, under a name made from all its bytes."""
    event = Event("", None, b"", None, whole.digest, whole.head)
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
