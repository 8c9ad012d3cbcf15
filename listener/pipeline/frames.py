"""Frames of the source: each an event, a glimpse of one, or nothing valid; and the passage that begins with it."""

import hashlib
from collections.abc import Callable, Sequence

from listener.claims.port import Ask
from listener.errors import InvalidEvent, failure_of
from listener.event import Event, parse
from listener.pipeline.passage import Doom, Passage, invalid_claim
from listener.together import Glimpse, plain_events
from listener.watermark import Position

FEW = 3
"""So many frames are read one by one, which for them is faster than together."""

Found = Event | Glimpse | InvalidEvent


def read_frames(
    frames: Sequence[bytes], *, max_bytes: int, glimpse: Callable[[Sequence[str]], Sequence[bool]]
) -> tuple[Sequence[Found], Sequence[str | None]]:
    """What each is, and its cursor. ``glimpse``: of each name to claim, whether a glimpse is enough."""
    if len(frames) > FEW and (together := plain_events(frames, max_bytes=max_bytes, glimpse=glimpse)):
        return together
    found: list[Found] = []
    cursors: list[str | None] = []
    for frame in frames:
        what, ask, cursor = _read_alone(frame, max_bytes)
        found.append((ask.event_id, ask.digest) if glimpse((ask.event_id,))[0] else what)
        cursors.append(cursor)
    return found, cursors


def passage_of(
    what: Event | InvalidEvent, frame: bytes, position: Position | None, received_at: float, received_clock: float
) -> Passage:
    """The passage of an event, or of a frame that is none: doomed, under a name made of its bytes."""
    if isinstance(what, Event):
        return Passage(what, Ask(what.event_id, what.digest), position, received_at, received_clock)
    digest = hashlib.sha256(frame).digest()
    event = Event(what.event_id or "", None, b"", None, digest, None, frame)
    passage = Passage(event, invalid_claim(digest), position, received_at, received_clock)
    passage.doom = Doom("invalid", "receive")
    passage.attempts.append(failure_of(what, stage="receive", at=received_at))
    return passage


def _read_alone(frame: bytes, max_bytes: int) -> tuple[Event | InvalidEvent, Ask, str | None]:
    try:
        event = parse(frame, max_bytes=max_bytes)
    except InvalidEvent as error:
        return error, invalid_claim(hashlib.sha256(frame).digest()), None
    return event, Ask(event.event_id, event.digest), event.cursor
