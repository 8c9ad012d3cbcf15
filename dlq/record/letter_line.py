"""A letter as one line of JSON. ``decode`` reverses ``encode`` exactly, for times in whole microseconds. Pure.

The line contains the event as the JSON that its publisher wrote. A frame that is no event is kept byte for byte.
``decode`` refuses (``Damaged``) a line with a wrong checksum, or one from a newer version.
"""

import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec

from unlost.dlq.record.fingerprint import plain
from unlost.dlq.record.letter import Coded, Letter, Mode, cleaned, epoch_second, iso, said
from unlost.dlq.record.line import broken_seal, seal
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import ErrorClass, Failure, UnlostError
from unlost.listener.core.event import on_one_line
from unlost.ops.kit.telemetry.mask import masked

VERSION = 1


class Damaged(UnlostError):
    """A line that is no letter. The text says why."""


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


def _line(letter: Letter) -> _Line:
    text, encoded = _raw_fields(letter.raw)
    return _Line(
        v=VERSION, letter_id=letter.letter_id, reason=letter.reason, error_class=letter.error_class,
        stage=letter.stage, error_type=plain(letter.error_type), message=masked(plain(letter.message)),
        fingerprint=letter.fingerprint, first_at=iso(letter.first_at), last_at=iso(letter.last_at),
        instance=plain(letter.instance), epoch=letter.epoch, mode=letter.mode,
        attempts=tuple(map(_attempt, letter.attempts)), event_id=letter.event_id, sqlstate=letter.sqlstate,
        cursor=letter.cursor, source=said(letter.source), handler=said(letter.handler), group=letter.group,
        route=said(letter.route), effect=letter.effect,
        order_key=letter.order_key, stops=letter.stops,
        event=_NO_EVENT if letter.event is None else msgspec.Raw(on_one_line(letter.event)),
        raw_text=text, raw_base64=encoded, raw_length=letter.raw_length, raw_sha256=letter.raw_sha256,
        coded=None if (coded := letter.coded) is None else _Coded(msgspec.Raw(coded.texts), coded.sha256),
    )  # fmt: skip


def _attempt(failure: Failure) -> _Attempt:
    clean = cleaned(failure)
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
