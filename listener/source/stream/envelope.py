"""Separates the cursor from the body of an event of the stream. Pure.

The producer adds ``cursor`` as the last field of the event's own text. A cursor is not content: the same event has
another one on each connection, and after each redelivery. A foreign feed may put the field anywhere, and give it any
JSON value. Text that is no JSON object stays as it is, byte for byte.
"""

from collections.abc import Sequence

import msgspec

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import MAX_ID_CHARACTERS, check_content, envelope
from unlost.listener.ports.source import Batch

NAME = b'"cursor"'
TAIL = b',"cursor":"'
END = b'"}'
_text = msgspec.json.Decoder(str)


def split(frames: Sequence[bytes], *, ours: bool = False) -> Batch:
    """Return the bodies of these frames, and their cursors.

    ``ours``: they come from our own producer, which accepts no event with a field ``cursor``. Then only the last field
    can be one, and the text before it is not searched.
    """
    parts = [frame.rpartition(TAIL) for frame in frames]
    heads, tails = [head for head, _, _ in parts], [tail for _, _, tail in parts]
    if not (all(heads) and _are_plain(tails) and (ours or NAME not in b"".join(heads))):
        return _split_with_care(frames)
    return Batch([head + b"}" for head in heads], [tail[:-2].decode() for tail in tails])


def _are_plain(tails: Sequence[bytes]) -> bool:
    """Whether each of these is a plain cursor, a quote and a brace. One search for all costs a third."""
    whole = b"".join(tails)
    quotes = whole.count(b'"')
    return (
        quotes == whole.count(END) == len(tails)
        and all(tail.endswith(END) for tail in tails)
        and whole.isascii()
        and b"\\" not in whole
        and max(map(len, tails), default=0) <= MAX_ID_CHARACTERS
    )


def _split_with_care(frames: Sequence[bytes]) -> Batch:
    apart = [_split_one(frame) for frame in frames]
    return Batch([body for body, _ in apart], [cursor for _, cursor in apart])


def _split_one(frame: bytes) -> tuple[bytes, str | None]:
    if NAME not in frame and b"\\u" not in frame:
        return frame, None
    try:
        check_content(frame)  # a repeated name would be lost
        fields = envelope.decode(frame)
    except (InvalidEvent, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frame, None  # refused later, with a reason
    raw = fields.pop("cursor", None)
    if raw is None:
        return frame, None
    return msgspec.json.encode(fields), _cursor_of(bytes(raw))


def _cursor_of(raw: bytes) -> str | None:
    """Return a cursor of any JSON type as text. One that is too long is ignored."""
    if raw == b"null":
        return None
    try:
        text = _text.decode(raw)
    except msgspec.DecodeError:
        text = raw.decode()
    return text if len(text) <= MAX_ID_CHARACTERS else None
