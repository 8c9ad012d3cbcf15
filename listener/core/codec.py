"""Encodes content at rest: what stands in rows, letters, effects and the journal of ``CODEC``.

The whole event is encoded, as its publisher wrote it. The result is one JSON object, the coded content, which ``jsonb``
accepts. It is bound to the id of its event, so it is refused in place of another's. Digests and comparisons are those
of the plain content, so another nonce or key is no conflict. Nothing here is called while ``CODEC`` is not set.

A subject is the person or account that an event is about: the value at ``CODEC_SUBJECT``. Once its key is destroyed,
what was encoded for it stays unreadable, and no further event of it becomes a row.
"""

import sys
from typing import Literal, Protocol

import msgspec

from unlost.listener.core.errors import InvalidEvent, Permanent
from unlost.listener.core.event import Event, parse
from unlost.listener.core.order_key import value_reader

NAME = "unlost"
MARK = "enc"
WITHHELD = "(encrypted with the event)"
"""Stands for a text that may quote an event, where that text is kept."""


class Unreadable(Permanent):
    """Encoded content that cannot be decoded. The text says why, in a sentence."""


class KeyMissing(Unreadable):
    """The key is not in the key file. With the right key file the content can be read."""


class SubjectErased(Unreadable):
    """The subject's key was destroyed. Nobody can read the content any more."""


class Codec(Protocol):
    """The class that ``CODEC=package.module:Codec`` names. It is called with the path of ``CODEC_KEYS``, or None.

    Calls come from several threads and must not wait for other machines.
    """

    def encode(self, plain: bytes, *, event_id: str, subject: str | None) -> bytes:
        """Return an object of JSON with ``"unlost": "enc"``, on one line. Raises ``SubjectErased``.

        ``subject``: None if the event has none.
        """
        ...

    def decode(self, coded: bytes, *, event_id: str) -> bytes:
        """Return what was encoded for this event. ``coded``: the same object, perhaps written in another way.

        Raises ``KeyMissing``, ``SubjectErased``, or ``Unreadable`` if it was changed or belongs to another event.
        """
        ...

    def is_erased(self, subject: str) -> bool:
        """Return whether the key of this subject was destroyed."""
        ...


class EventCodec:
    """A codec, and where the subject stands in an event."""

    def __init__(self, codec: Codec, subject: str = "") -> None:
        """``subject``: the path of the subject in an event; empty: events have none."""
        self._codec = codec
        self._find = value_reader(subject) if subject else None

    def subject_of(self, event: Event) -> str | None:
        """Return the subject of an event; None if it has none."""
        return (self._find(event) or None) if self._find is not None else None

    def check(self, event: Event) -> None:
        """Raise ``SubjectErased`` if the event may not be stored any more."""
        subject = self.subject_of(event)
        if subject is not None and self._codec.is_erased(subject):
            raise SubjectErased(erased())

    def encode(self, event: Event) -> bytes:
        """Return the coded content of an event. Raises ``SubjectErased``."""
        return self._codec.encode(event.frame, event_id=event.event_id, subject=self.subject_of(event))

    def encode_body(self, event_id: str, frame: bytes) -> bytes:
        """Return the coded content of the event in a frame; of an erased subject, without the subject's key."""
        if self._find is None:
            return self._codec.encode(frame, event_id=event_id, subject=None)
        return self.encode_kept(parse(frame, max_bytes=sys.maxsize), frame)

    def encode_about(self, event: Event, plain: bytes) -> bytes:
        """Return the coded content of something that belongs to an event. Raises ``SubjectErased``."""
        return self._codec.encode(plain, event_id=event.event_id, subject=self.subject_of(event))

    def encode_kept(self, event: Event, plain: bytes) -> bytes:
        """Return the same for a letter, which must be written: of an erased subject, without the subject's key."""
        try:
            return self.encode_about(event, plain)
        except SubjectErased:
            return self._codec.encode(plain, event_id=event.event_id, subject=None)

    def decode(self, coded: bytes, *, event_id: str) -> bytes:
        """Return the plain content. Raises ``Unreadable``."""
        return self._codec.decode(coded, event_id=event_id)

    def decode_event(self, coded: bytes, *, event_id: str) -> Event:
        """Return the event that was encoded. Raises ``Unreadable``."""
        frame = self.decode(coded, event_id=event_id)
        try:
            return parse(frame, max_bytes=sys.maxsize)
        except InvalidEvent as error:
            raise Unreadable(f"the decoded content of event {event_id!r} is no event: {error}") from None

    def decode_frame(self, frame: bytes) -> bytes:
        """Return the event of a frame from ``coded_frame``; any other as it is. Raises ``Unreadable``."""
        try:
            event = parse(frame, max_bytes=sys.maxsize)
        except InvalidEvent:
            return frame
        return self.decode(event.payload, event_id=event.event_id) if is_coded(event.payload) else frame


class _Marked(msgspec.Struct):
    unlost: Literal["enc"]


class _Named(msgspec.Struct):
    event_id: str
    type: str | None
    payload: msgspec.Raw


_marked = msgspec.json.Decoder(_Marked)


def is_coded(payload: bytes) -> bool:
    """Whether a payload is coded content. Any JSON may come."""
    if b'"unlost"' not in payload:
        return False
    try:
        _marked.decode(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False
    return True


def coded_frame(event: Event, coded: bytes) -> bytes:
    """Return an event with coded content as its payload, and the id and type in plain text."""
    return msgspec.json.encode(_Named(event.event_id, event.type, msgspec.Raw(coded)))


def erased() -> str:
    """Return what is said of content whose subject was erased. It names nobody."""
    return "its subject was erased: the key was destroyed, so the content stays unreadable and no such event is stored"
