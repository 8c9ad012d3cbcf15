"""The dead letter: an event that could not be stored, with everything that explains why. Pure.

Times and ids are arguments. Passwords in URLs are masked in the letter's own fields. The event itself belongs to the
user and is not changed. ``letter_line.py`` has its form in a file.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from unlost.dlq.record.fingerprint import fingerprint, plain
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import ErrorClass, Failure
from unlost.listener.core.event import Event
from unlost.listener.core.oversized import Oversized
from unlost.ops.kit.telemetry.mask import masked

ALIKE = 64
"""So many times are remembered in both forms: a letter has most of them twice, and records of a batch share one."""
Mode = Literal["normal", "degraded"]

# The error in a letter that no attempt preceded, because the answer to the claim decided.
_UNATTEMPTED: dict[str, tuple[str, str, ErrorClass]] = {
    "conflict": ("Conflict", "an event with this id and other content is already known", "permanent"),
    "crash_loop": ("CrashLoop", "its owners ended too often while they processed it", "permanent"),
    "overflow": ("Overflow", "there was no room to hold it while the database was away", "transient"),
    "stopped": ("Stopped", "its listener was stopped before it was settled", "transient"),
    "deferred": ("Deferred", "too many events waited for another attempt", "transient"),
    "rejected": ("Reject", "the handler refused it", "permanent"),
    "invalid": ("InvalidEvent", "it is no valid event", "permanent"),
    "exhausted": ("Exhausted", "all attempts failed", "transient"),
    "effect": ("EffectFailed", "an effect of the event could not be delivered", "transient"),
    "blocked": ("Blocked", "an earlier event of the same key is a dead letter", "transient"),
}


class Coded(msgspec.Struct, frozen=True):
    """The encoded texts of a letter, and the SHA-256 of the event's content, or of the frame."""

    texts: bytes
    sha256: str


class Letter(msgspec.Struct, frozen=True):
    """One dead letter, format version 1.

    If a frame was too large to be held, ``raw`` is its beginning; ``raw_length`` and ``raw_sha256`` describe all of it.
    ``effect``: the number of the effect that could not be delivered; the event itself is a row. ``coded``: a codec has
    encoded the content (``coded.py``).
    """

    letter_id: str
    event_id: str | None
    reason: Reason
    error_class: ErrorClass
    stage: str
    event: bytes | None
    raw: bytes | None
    attempts: tuple[Failure, ...]
    error_type: str
    message: str
    sqlstate: str | None
    fingerprint: str
    first_at: float
    last_at: float
    instance: str
    epoch: int
    mode: Mode
    cursor: str | None
    source: str | None
    raw_length: int | None = None
    raw_sha256: str | None = None
    handler: str | None = None
    group: str | None = None
    route: str | None = None
    effect: int | None = None
    order_key: str | None = None
    stops: bool | None = None
    coded: Coded | None = None


def letter_for(
    event: Event,
    *,
    letter_id: str,
    reason: Reason,
    stage: str,
    attempts: Sequence[Failure],
    at: float,
    instance: str,
    epoch: int,
    mode: Mode,
    source: str | None,
    cursor: str | None = None,
    handler: str | None = None,
    group: str | None = None,
    route: str | None = None,
    effect: int | None = None,
    order_key: str | None = None,
    stops: bool | None = None,
) -> Letter:
    """The letter of an event that ends with ``reason`` at ``stage``."""
    failures = tuple(map(cleaned, _without_repetition(attempts)))
    kind, message, error_class = _UNATTEMPTED[reason]
    sqlstate = None
    if failures:
        last = failures[-1]
        kind, message, error_class, sqlstate = last.error_type, last.message, last.error_class, last.sqlstate
    return Letter(
        letter_id=letter_id, event_id=event.event_id, reason=reason, error_class=error_class, stage=stage,
        event=event.on_one_line(), raw=None, attempts=failures, error_type=kind, message=message,
        sqlstate=sqlstate, fingerprint=fingerprint(reason, kind, message, sqlstate, stage, event),
        first_at=failures[0].at if failures else at, last_at=at, instance=instance, epoch=epoch, mode=mode,
        cursor=cursor, source=said(source), handler=said(handler), group=group,
        route=said(route), effect=effect, order_key=order_key, stops=stops,
    )  # fmt: skip


def _without_repetition(attempts: Sequence[Failure]) -> list[Failure]:
    """Keep equal consecutive tracebacks only once, in the last of these attempts."""
    said: list[Failure] = []
    following: str | None = None
    for one in reversed(attempts):
        said.append(msgspec.structs.replace(one, traceback=None) if one.traceback == following else one)
        following = one.traceback
    return said[::-1]


def letter_for_frame(
    frame: bytes,
    *,
    letter_id: str,
    message: str,
    event_id: str | None,
    at: float,
    instance: str,
    source: str | None,
    cursor: str | None = None,
    whole: Oversized | None = None,
    reason: Reason = "invalid",
    handler: str | None = None,
    group: str | None = None,
    mode: Mode = "normal",
) -> Letter:
    """The letter of a frame that is no valid event, with its bytes; of an oversized frame, with its beginning."""
    kind, _, error_class = _UNATTEMPTED[reason]
    failure = cleaned(Failure(at, "receive", error_class, kind, message))
    return Letter(
        letter_id=letter_id, event_id=event_id, reason=reason, error_class=error_class, stage="receive",
        event=None, raw=frame, attempts=(failure,), error_type=kind, message=failure.message,
        sqlstate=None, fingerprint=fingerprint(reason, kind, failure.message, None, "receive", None),
        first_at=at, last_at=at, instance=instance, epoch=0, mode=mode, cursor=cursor, source=said(source),
        handler=said(handler), group=group,
        raw_length=whole.length if whole else None, raw_sha256=whole.digest.hex() if whole else None,
    )  # fmt: skip


@lru_cache(maxsize=ALIKE)
def iso(at: float) -> str:
    """An epoch second as ISO 8601 in UTC, with microseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@lru_cache(maxsize=ALIKE)
def epoch_second(text: str) -> float:
    """The epoch second of an ISO 8601 time. Without a time zone it is UTC."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def said(text: str | None) -> str | None:
    """A text as letters hold it: without control characters and passwords."""
    return None if text is None else masked(plain(text))


def cleaned(failure: Failure) -> Failure:
    """A failure as letters hold it."""
    return msgspec.structs.replace(failure, message=masked(plain(failure.message)), traceback=said(failure.traceback))
