"""The event: which frames are valid, and how id and content are read from them.

Only the envelope is decoded. The payload stays the text that the source sent, so nothing is rounded, reordered or
merged on its way into ``jsonb``. PostgreSQL decides in the end whether it is valid.

Text that is not UTF-8 or not a JSON object is refused here, with a reason. So are an id that is not a string of 1 to
256 characters, and ``\\u0000``, which PostgreSQL cannot store. A name that occurs twice in one object is refused too,
since parsers disagree on which one counts.
"""

import hashlib
import json
from collections.abc import Collection
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from unlost.listener.core.errors import InvalidEvent

MAX_ID_CHARACTERS = 256
ENVELOPE = frozenset(("event_id", "type", "payload"))

ERASED = "unlost_erased"
"""The only field beside the id in ``erased_frame``."""

_NAMED = frozenset(("event_id", "payload"))

envelope = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
any_json = msgspec.json.Decoder()


# gc=False: it cannot be part of a cycle, and a collection would have to look at ten thousands of them.
class Event(msgspec.Struct, frozen=True, gc=False):
    """A valid event. Its content is still the text that the source sent."""

    event_id: str
    type: str | None
    payload: bytes
    other: bytes | None
    digest: bytes
    frame: bytes

    @property
    def size(self) -> int:
        """The number of bytes of memory that this event counts as."""
        return len(self.frame)

    def on_one_line(self) -> bytes:
        """Return the event as its publisher wrote it, on one line."""
        return on_one_line(self.frame)


class Edited(msgspec.Struct, frozen=True, gc=False):
    """An event comes from an edited letter: which version, and the digest of what the publisher sent, if that is known.

    A copy of what the publisher sent is a duplicate of the row, although its content differs.
    """

    version: int
    original: bytes | None = None


_Word = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARACTERS)]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The envelope of nearly all events: an id, a payload, perhaps a type, and no other fields."""

    event_id: Annotated[_Word, msgspec.Meta(min_length=1)]
    payload: msgspec.Raw
    type: _Word | UnsetType | None = UNSET


plain_envelope = msgspec.json.Decoder(_Plain)


def parse(frame: bytes | str, *, max_bytes: int) -> Event:
    """Read one frame, or raise ``InvalidEvent`` with a reason that its publisher understands."""
    return parse_named(frame, max_bytes=max_bytes)[0]


def parse_named(frame: bytes | str, *, max_bytes: int) -> tuple[Event, Collection[str]]:
    """Read one frame; also return its field names, at least ``event_id`` (if there) and those kept in ``other``."""
    data = _encoded(frame)
    if len(data) > max_bytes:
        raise InvalidEvent(too_large(len(data), max_bytes))
    return read_plainly(data) or read_with_care(data)


def too_large(length: int, max_bytes: int) -> str:
    """The message for an event above the size limit."""
    return f"the event has {length:,} bytes, and {max_bytes:,} are allowed"


def read_plainly(data: bytes) -> tuple[Event, Collection[str]] | None:
    """Read an event if it is certainly plain; otherwise return None, and ``read_with_care`` must read it.

    A decoder that drops a repeated name drops its colon too. So if no colon is lost, no name stood twice.
    """
    if may_hide(data):
        return None
    try:
        plain = plain_envelope.decode(data)
        payload = bytes(plain.payload)
        colons = _colons(plain, payload)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    kind = None if plain.type is UNSET else plain.type
    if colons != how_often(b":", data):
        return None
    return Event(plain.event_id, kind, payload, None, _digest(kind, payload, None), data), _NAMED


def _colons(plain: _Plain, payload: bytes) -> int:
    """Count the colons that remain once an event is decoded."""
    count = 2 + how_often(b":", msgspec.json.encode(any_json.decode(payload))) + plain.event_id.count(":")
    if plain.type is not UNSET:
        count += 1 + (plain.type or "").count(":")
    return count


def read_with_care(data: bytes) -> tuple[Event, Collection[str]]:
    """Read any event; raise ``InvalidEvent`` if it is none."""
    fields = _fields(data)
    if bytes(fields.get("event_id", b"")) == b"null" and "refused" in fields:
        raise InvalidEvent(_optional_text(fields, "refused") or "refused")
    event_id = _event_id(fields.get("event_id"))
    if ERASED in fields and len(fields) == 2 and event_id is not None:
        raise InvalidEvent(_optional_text(fields, ERASED) or ERASED, event_id=event_id)
    try:
        check_content(data)
        kind = _optional_text(fields, "type")
        if event_id is None:
            event_id = content_id(data)
    except InvalidEvent as error:
        raise InvalidEvent(str(error), event_id=event_id) from None
    payload, other = _content(fields)
    return Event(event_id, kind, payload, other, _digest(kind, payload, other), data), fields.keys()


def erased_frame(event_id: str, why: str) -> bytes:
    """Return what is sent in place of an event whose content nobody can read any more. It becomes a letter."""
    return msgspec.json.encode({"event_id": event_id, ERASED: why})


def content_id(data: bytes) -> str:
    """Make an id for an object without one: the SHA-256 of its canonical JSON."""
    try:
        value = json.loads(data, parse_float=_canonical_number)
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"no id can be made from the content: {error}") from None
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def on_one_line(data: bytes) -> bytes:
    """Return the same JSON without line breaks. Valid JSON has them between tokens only."""
    return data.replace(b"\r", b" ").replace(b"\n", b" ").strip()


def decode(data: bytes) -> Any:
    """Return the JSON value as Python objects, for a handler."""
    try:
        return any_json.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidEvent(f"the payload cannot be decoded: {error}") from None


def how_often(byte: bytes, data: bytes) -> int:
    """Count a byte. This way takes a sixth to a half of the time of ``bytes.count``."""
    return len(data) - len(data.replace(byte, b""))


def _canonical_number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number


def _encoded(frame: bytes | str) -> bytes:
    if isinstance(frame, str):
        try:
            return frame.encode()
        except UnicodeEncodeError:
            raise InvalidEvent("the text holds a lone surrogate, which is no Unicode character") from None
    return frame


def _fields(data: bytes) -> dict[str, msgspec.Raw]:
    try:
        data.decode()
        return envelope.decode(data)
    except UnicodeDecodeError as error:
        raise InvalidEvent(f"not UTF-8 at byte {error.start}") from None
    except msgspec.ValidationError:
        raise InvalidEvent("an event is a JSON object, and this is another JSON value") from None
    except msgspec.DecodeError as error:
        raise InvalidEvent(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    except RecursionError:
        raise InvalidEvent("nested too deeply") from None


def _event_id(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        event_id = _text.decode(raw)
    except msgspec.DecodeError:
        raise InvalidEvent("event_id must be a string") from None
    if not 1 <= len(event_id) <= MAX_ID_CHARACTERS:
        raise InvalidEvent(f"event_id has {len(event_id):,} characters; 1 to {MAX_ID_CHARACTERS} are allowed")
    if "\x00" in event_id:
        raise InvalidEvent("event_id holds the character U+0000, which PostgreSQL cannot store")
    return event_id


def _optional_text(fields: dict[str, msgspec.Raw], name: str) -> str | None:
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    try:
        text = _text.decode(raw)
    except msgspec.DecodeError:
        raise InvalidEvent(f"{name} must be a string") from None
    if len(text) > MAX_ID_CHARACTERS:
        raise InvalidEvent(f"{name} has {len(text):,} characters; {MAX_ID_CHARACTERS} are allowed")
    return text


def _content(fields: dict[str, msgspec.Raw]) -> tuple[bytes, bytes | None]:
    """Return the payload and the other fields. An object without ``payload`` is its own payload."""
    other = {name: fields[name] for name in fields if name not in ENVELOPE}
    payload = fields.get("payload")
    if payload is None:
        return msgspec.json.encode(other), None
    return bytes(payload), msgspec.json.encode(other) if other else None


def _digest(kind: str | None, payload: bytes, other: bytes | None) -> bytes:
    return hashlib.sha256(b"\x00".join(((kind or "").encode(), payload, other or b""))).digest()


def check_content(data: bytes) -> None:
    """Refuse names that stand twice in one object, and U+0000, at any depth.

    For nearly all events a count of colons proves it (see ``read_plainly``). Only if that fails is each object visited.
    """
    if not may_hide(data):
        try:
            if how_often(b":", msgspec.json.encode(any_json.decode(data))) == how_often(b":", data):
                return
        except (msgspec.DecodeError, RecursionError):
            pass
    try:
        _exact.decode(data.decode())
    except RecursionError:
        raise InvalidEvent("nested too deeply") from None
    except ValueError as error:
        raise InvalidEvent(f"not JSON: {error}") from None
    if b"\\u0000" in data and _holds_nul(data):
        raise InvalidEvent("the event holds \\u0000, which PostgreSQL cannot store")


def may_hide(data: bytes) -> bool:
    """Whether an escape may hide a colon or U+0000. Searching for one character first is much faster than for four."""
    return b"\\" in data and b"\\u00" in data and (b"\\u0000" in data or b"\\u003a" in data or b"\\u003A" in data)


def _holds_nul(data: bytes) -> bool:
    """Return whether an escape ``\\u0000`` is real, that is, its backslash is not itself escaped."""
    return b"\\u0000" in data.replace(b"\\\\", b"")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidEvent(f'the name "{twice[:80]}" occurs twice in one object')
    return names


_exact = json.JSONDecoder(object_pairs_hook=_unique_names, parse_int=str, parse_float=str)
