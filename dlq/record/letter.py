"""The dead letter: an event that could not be stored, with everything that explains why, as one line of JSON.

Pure: times and ids are arguments. ``decode`` reverses ``encode`` exactly, for times in whole microseconds. The line
contains the event as the JSON that its publisher wrote. A frame that is no event is kept byte for byte. ``decode``
refuses (``Damaged``) a line with a wrong checksum, or one from a newer version. Passwords in URLs are masked in the
letter's own fields. The event itself belongs to the user and is not changed.
"""

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec

from unlost.dlq.record.fingerprint import fingerprint, plain
from unlost.dlq.record.line import broken_seal, seal
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import ErrorClass, Failure, UnlostError
from unlost.listener.core.event import Event, on_one_line
from unlost.listener.core.oversized import Oversized
from unlost.ops.kit.telemetry.mask import masked

VERSION = 1
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


class Damaged(UnlostError):
    """A line that is no letter. The text says why."""


class Coded(msgspec.Struct, frozen=True):
    """What a codec adds to a letter: its encoded texts, and the SHA-256 of the event's content, or of the frame."""

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


_NO_EVENT = msgspec.Raw()


class _Attempt(msgspec.Struct, omit_defaults=True):
    at: str
    stage: Literal["receive", "claim", "handle", "store", "effect"]
    error_class: ErrorClass
    error_type: str
    message: str
    sqlstate: str | None = None
    traceback: str | None = None


class _Coded(msgspec.Struct):
    texts: msgspec.Raw
    sha256: str


class _Line(msgspec.Struct, omit_defaults=True):
    """A letter as written in the file. ``omit_defaults`` leaves out unknown fields."""

    v: int
    letter_id: str
    reason: Reason
    error_class: ErrorClass
    stage: str
    error_type: str
    message: str
    fingerprint: str
    first_at: str
    last_at: str
    instance: str
    epoch: int
    mode: Mode
    attempts: tuple[_Attempt, ...]
    event_id: str | None = None
    sqlstate: str | None = None
    cursor: str | None = None
    source: str | None = None
    handler: str | None = None
    group: str | None = None
    route: str | None = None
    effect: int | None = None
    order_key: str | None = None
    stops: bool | None = None
    event: msgspec.Raw = _NO_EVENT
    raw_text: str | None = None
    raw_base64: str | None = None
    raw_length: int | None = None
    raw_sha256: str | None = None
    coded: _Coded | None = None


_lines = msgspec.json.Decoder(_Line)


def encode(letter: Letter) -> bytes:
    """The letter on one line, without the newline, with its checksum last."""
    return seal(_line(letter))


def decode(line: bytes) -> Letter:
    """The letter of one line. Raises ``Damaged`` with the reason."""
    broken = broken_seal(line)
    if broken:
        raise Damaged(broken)
    try:
        return _letter(_parsed(line))
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise Damaged(_why_unreadable(line, error)) from None


def letter_values(letter: Letter) -> dict[str, Any]:
    """The letter as plain values with the field names of the file, for people and programs."""
    line = _line(letter)
    line.event = _NO_EVENT
    line.coded = None
    values: dict[str, Any] = msgspec.to_builtins(line)
    if letter.event is not None:
        values["event"] = msgspec.Raw(letter.event)
    return values


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
    failures = tuple(map(_clean, _without_repetition(attempts)))
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
        cursor=cursor, source=_said(source), handler=_said(handler), group=group,
        route=_said(route), effect=effect, order_key=order_key, stops=stops,
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
    failure = _clean(Failure(at, "receive", error_class, kind, message))
    return Letter(
        letter_id=letter_id, event_id=event_id, reason=reason, error_class=error_class, stage="receive",
        event=None, raw=frame, attempts=(failure,), error_type=kind, message=failure.message,
        sqlstate=None, fingerprint=fingerprint(reason, kind, failure.message, None, "receive", None),
        first_at=at, last_at=at, instance=instance, epoch=0, mode=mode, cursor=cursor, source=_said(source),
        handler=_said(handler), group=group,
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


def _said(text: str | None) -> str | None:
    return None if text is None else masked(plain(text))


def _clean(failure: Failure) -> Failure:
    return msgspec.structs.replace(failure, message=masked(plain(failure.message)), traceback=_said(failure.traceback))


def _line(letter: Letter) -> _Line:
    text, encoded = _raw_fields(letter.raw)
    return _Line(
        v=VERSION, letter_id=letter.letter_id, reason=letter.reason, error_class=letter.error_class,
        stage=letter.stage, error_type=plain(letter.error_type), message=masked(plain(letter.message)),
        fingerprint=letter.fingerprint, first_at=iso(letter.first_at), last_at=iso(letter.last_at),
        instance=plain(letter.instance), epoch=letter.epoch, mode=letter.mode,
        attempts=tuple(map(_attempt, letter.attempts)), event_id=letter.event_id, sqlstate=letter.sqlstate,
        cursor=letter.cursor, source=_said(letter.source), handler=_said(letter.handler), group=letter.group,
        route=_said(letter.route), effect=letter.effect,
        order_key=letter.order_key, stops=letter.stops,
        event=_NO_EVENT if letter.event is None else msgspec.Raw(on_one_line(letter.event)),
        raw_text=text, raw_base64=encoded, raw_length=letter.raw_length, raw_sha256=letter.raw_sha256,
        coded=None if (coded := letter.coded) is None else _Coded(msgspec.Raw(coded.texts), coded.sha256),
    )  # fmt: skip


def _attempt(failure: Failure) -> _Attempt:
    clean = _clean(failure)
    return _Attempt(
        iso(clean.at), clean.stage, clean.error_class, plain(clean.error_type), clean.message, clean.sqlstate,
        clean.traceback,
    )  # fmt: skip


def _raw_fields(raw: bytes | None) -> tuple[str | None, str | None]:
    if raw is None:
        return None, None
    try:
        return raw.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode()


def _parsed(line: bytes) -> _Line:
    try:
        return _lines.decode(line)
    except RecursionError:
        # How deep JSON may nest depends on the free stack. A listener may have parsed this event with more stack left
        # than there is here. So try again in a new thread, which has an empty stack of its own.
        with ThreadPoolExecutor(1) as fresh:
            try:
                return fresh.submit(_lines.decode, line).result()
            except RecursionError:
                raise ValueError("nested too deeply") from None


def _letter(line: _Line) -> Letter:
    if line.v != VERSION:
        raise ValueError(f"version {line.v}")
    raw = None if line.raw_text is None else line.raw_text.encode()
    if line.raw_base64 is not None:
        raw = base64.b64decode(line.raw_base64, validate=True)
    return Letter(
        letter_id=line.letter_id, event_id=line.event_id, reason=line.reason, error_class=line.error_class,
        stage=line.stage, event=bytes(line.event) or None, raw=raw,
        attempts=tuple([
            Failure(
                epoch_second(one.at), one.stage, one.error_class, one.error_type, one.message, one.sqlstate,
                one.traceback,
            )
            for one in line.attempts
        ]),
        error_type=line.error_type, message=line.message, sqlstate=line.sqlstate, fingerprint=line.fingerprint,
        first_at=epoch_second(line.first_at), last_at=epoch_second(line.last_at), instance=line.instance,
        epoch=line.epoch, mode=line.mode, cursor=line.cursor, source=line.source, handler=line.handler,
        group=line.group, route=line.route, effect=line.effect,
        order_key=line.order_key, stops=line.stops,
        raw_length=line.raw_length, raw_sha256=line.raw_sha256,
        coded=None if line.coded is None else Coded(bytes(line.coded.texts), line.coded.sha256),
    )  # fmt: skip


def _why_unreadable(line: bytes, error: Exception) -> str:
    try:
        version = msgspec.json.decode(line, type=dict[str, msgspec.Raw]).get("v")
    except (msgspec.DecodeError, RecursionError):
        return f"it cannot be read: {error}"
    if version is not None and bytes(version) != str(VERSION).encode():
        return f"it has format version {bytes(version).decode()}, and this program reads {VERSION}; use a newer one"
    return f"it cannot be read: {error}"
