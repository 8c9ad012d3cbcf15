"""Many plain events read at once, for half of what each by itself costs; what is unusual in any way is not read here.

Each frame is decoded by itself, so none can hide behind another. Only the proof that no name stood twice (see
``read_plainly``) is made of all in one: an event may lose colons on decoding and can win none, so where the sums agree,
all agree. Where they do not, nobody knows of which event, and None is the answer: then each is read by itself.

Where a glimpse is enough, the content is hashed and not looked into: whoever settled the same content has read the
same bytes. Only in the envelope could a name stand twice then, and where the frame is hardly longer than its values
need, there is no room for that.
"""

import hashlib
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET

from listener.event import Event, Plain, any_json, how_often, may_hide, plain_envelope, published_envelope

SPARE = 8
"""So many bytes longer than needed a frame may be, for spaces. A field needs more: ``,"type":""``."""
LEAST = len(b'{"event_id":"","payload":}')
LEAST_OF_TYPE = len(b',"type":""')
LEAST_OF_CURSOR = len(b',"cursor":""')

Glimpse = tuple[str, bytes]
"""An event's id, and the digest of its content."""


def nobodys(event_ids: Sequence[str]) -> list[bool]:
    """Of none of these is a glimpse enough."""
    return [False] * len(event_ids)


def plain_events(
    frames: Sequence[bytes], *, max_bytes: int, glimpse: Callable[[Sequence[str]], Sequence[bool]]
) -> tuple[list[Event | Glimpse], list[str | None]] | None:
    """These events and their cursors; None where one of them is too large, or not plain and beyond doubt.

    ``glimpse``: of each id, whether a glimpse of the event is enough.
    """
    if max(map(len, frames), default=0) > max_bytes:
        return None
    try:
        plain = list(map(plain_envelope.decode, frames))
        glimpses = glimpse([one.event_id for one in plain])
        if not _lose_nothing(b"\n".join(_doubtful(frames, plain, glimpses) if any(glimpses) else frames)):
            return None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    cursors = [None if one.cursor is UNSET else one.cursor for one in plain]
    found: list[Event | Glimpse] = []
    for one, frame, cursor, is_enough in zip(plain, frames, cursors, glimpses, strict=True):
        kind = one.type
        payload = bytes(one.payload)
        digest = hashlib.sha256((b"%b\x00%b\x00" % (kind.encode(), payload)) if kind else b"\x00%b\x00" % payload)
        if is_enough:
            found.append((one.event_id, digest.digest()))
            continue
        cursor = None if one.cursor is UNSET else one.cursor
        found.append(
            Event(one.event_id, None if kind is UNSET else kind, payload, None, digest.digest(), cursor, frame)
        )
    return found, [None if one.cursor is UNSET else one.cursor for one in plain]


def _doubtful(frames: Sequence[bytes], plain: Sequence[Plain], glimpses: Sequence[bool]) -> list[bytes]:
    """Those in which a name could stand twice, as far as that matters."""
    return [
        frame
        for frame, one, is_enough in zip(frames, plain, glimpses, strict=True)
        if not is_enough or len(frame) > _least(one) + SPARE or may_hide(frame)
    ]


def _least(one: Plain) -> int:
    """So many bytes an event needs; more, if not all of its characters are of one byte."""
    least = LEAST + len(one.event_id) + len(bytes(one.payload))
    if one.type is not UNSET:
        least += LEAST_OF_TYPE + len(one.type or "")
    if one.cursor is not UNSET:
        least += LEAST_OF_CURSOR + len(one.cursor)
    return least


def plain_ids(lines: Sequence[bytes], whole: bytes) -> tuple[list[str], list[bytes]] | None:
    """Ids and digests of these; None where one of them is not plain and beyond doubt, or brings a cursor.

    ``whole``: the lines with line ends between them.
    """
    try:
        plain = list(map(published_envelope.decode, lines))
        if not _lose_nothing(whole):
            return None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    begun = {kind: hashlib.sha256((kind or "").encode() + b"\x00") for kind in {one.type for one in plain}}
    digests = []
    for one in plain:
        content = begun[one.type].copy()  # for a third less than a new one
        content.update(one.payload)
        content.update(b"\x00")
        digests.append(content.digest())
    return [one.event_id for one in plain], digests


def _lose_nothing(whole: bytes) -> bool:
    """Whether decoding keeps every colon of these lines."""
    if may_hide(whole):
        return False
    return how_often(b":", msgspec.json.encode(any_json.decode_lines(whole))) == how_often(b":", whole)
