"""Letters whose content a codec has encoded: the event or frame, and every text that may quote it. Pure.

The fields by which a letter is found, counted and registered stay as they are: ids, type, key, reason, error type,
stage, times, fingerprint, and the digest of the plain content. So listeners without the codec ship and register such
letters too.
"""

import hashlib
import sys

import msgspec
from msgspec.structs import replace

from unlost.dlq.record.letter import Coded, Letter
from unlost.dlq.record.letter_state import Edit, Record
from unlost.listener.core.codec import WITHHELD, EventCodec, Unreadable, coded_frame, is_coded
from unlost.listener.core.errors import Failure, InvalidEvent
from unlost.listener.core.event import Event, parse

QUOTING = ("failed", "retried", "quarantined")
"""Records whose detail is an error of the event, not what a person wrote."""


class _Texts(msgspec.Struct):
    """The texts of a letter that may quote its event."""

    message: str
    attempts: list[tuple[str, str | None]]


def encoded(letter: Letter, event: Event, codec: EventCodec) -> Letter:
    """Return a letter of this event, or of this frame, with its content encoded."""
    texts = _Texts(letter.message, [(one.message, one.traceback) for one in letter.attempts])
    whole = msgspec.json.encode(texts)
    about = event if event.event_id == (letter.event_id or "") else replace(event, event_id=letter.event_id or "")
    content = codec.encode_kept(about, letter.event if letter.event is not None else letter.raw or b"")
    plain_digest = hashlib.sha256(letter.raw or b"").digest() if letter.event is None else event.digest
    return replace(
        letter,
        event=None if letter.event is None else coded_frame(event, content),
        raw=None if letter.raw is None else content,
        message=WITHHELD if letter.attempts else letter.message,
        attempts=tuple(map(_silent, letter.attempts)),
        coded=Coded(codec.encode_kept(about, whole), letter.raw_sha256 or plain_digest.hex()),
    )


def decoded(letter: Letter, codec: EventCodec) -> Letter:
    """Return a letter as it was before ``encoded``; any other as it is. Raises ``Unreadable``."""
    if letter.coded is None:
        return letter
    event_id = letter.event_id or ""
    event = None if letter.event is None else codec.decode(_payload_of(letter.event), event_id=event_id)
    raw = None if letter.raw is None else codec.decode(letter.raw, event_id=event_id)
    try:
        texts = msgspec.json.decode(codec.decode(letter.coded.texts, event_id=event_id), type=_Texts)
        attempts = tuple(
            replace(one, message=message, traceback=traceback)
            for one, (message, traceback) in zip(letter.attempts, texts.attempts, strict=True)
        )
    except (msgspec.DecodeError, ValueError) as error:
        raise Unreadable(f"the texts of its letter are damaged: {error}") from None
    return replace(letter, event=event, raw=raw, message=texts.message, attempts=attempts, coded=None)


def encoded_record(record: Record, codec: EventCodec) -> Record:
    """Return a record with its version of the event encoded, and without a text that may quote it."""
    if record.what in QUOTING and record.detail:
        record = replace(record, detail=WITHHELD)
    if record.edit is None:
        return record
    event = parse(record.edit.event, max_bytes=sys.maxsize)
    if is_coded(event.payload):
        return record
    return replace(record, edit=replace(record.edit, event=coded_frame(event, codec.encode_kept(event, event.frame))))


def decoded_record(record: Record, codec: EventCodec) -> Record:
    """Return a record with its version of the event as it was; if that is unreadable, as it is."""
    if record.edit is None:
        return record
    try:
        return replace(record, edit=_decoded_edit(record.edit, codec))
    except Unreadable:
        return record


def _decoded_edit(edit: Edit, codec: EventCodec) -> Edit:
    return replace(edit, event=codec.decode_frame(edit.event))


def _payload_of(frame: bytes) -> bytes:
    try:
        return parse(frame, max_bytes=sys.maxsize).payload
    except InvalidEvent as error:
        raise Unreadable(f"the event in its letter is damaged: {error}") from None


def _silent(failure: Failure) -> Failure:
    return replace(failure, message=WITHHELD, traceback=None)
