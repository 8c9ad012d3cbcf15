"""The rules for a published body, and the response to each outcome. Pure."""

from collections.abc import Callable, Collection, Sequence
from itertools import chain

import msgspec
from msgspec import UNSET, UnsetType

from unlost.listener.core.bulk import plain_ids
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import MAX_ID_CHARACTERS, Event, content_id, envelope, on_one_line, parse, parse_named
from unlost.producer.journal.port import Accepted, Placed
from unlost.producer.journal.publications import LINE_END, Index, Lines, Publication, Publications, ids_of, index_of

STATUS = {"accepted": 202, "redelivered": 202, "duplicate": 409, "conflict": 409, "invalid": 400, "too_large": 413}
SAYINGS = {
    "duplicate": "this event was published before; add ?redeliver=true to send it once more",
    "conflict": "this event_id was published before with other content",
}


CURSOR = "cursor"
"""The field that the stream adds to each event."""
NEAR = 256
"""How many lines are checked at once. This many decoded lines fit the CPU's cache; with 2,048 each costs 25 % more."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The JSON answer to a publisher: the outcome of an event."""

    line: int | UnsetType
    status: str
    event_id: str | None
    cursor: str | UnsetType = UNSET
    error: str | UnsetType = UNSET


class NotAccepted(Exception):
    """The body is not accepted as an event. ``status`` is the status in the answer."""

    def __init__(self, status: str, reason: str, event_id: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.event_id = event_id


class Reserved(NotAccepted):
    """The body has a field that the stream adds to each event."""


Check = Callable[[Event], None]
"""Raises ``NotAccepted`` for an event whose content is not as it should be."""


def publication(body: bytes, *, max_bytes: int, redeliver: bool = False, check: Check | None = None) -> Publication:
    """Check one body, and raise ``NotAccepted`` if it is no valid event."""
    if len(body) > max_bytes:
        raise NotAccepted("too_large", f"the event has {len(body):,} bytes, and {max_bytes:,} are allowed")
    try:
        event, names = parse_named(body, max_bytes=max_bytes)
    except InvalidEvent as error:
        raise NotAccepted("invalid", str(error), error.event_id) from None
    if CURSOR in names:
        raise Reserved("invalid", f'the field "{CURSOR}" is reserved for the stream', event.event_id)
    line = _line(event, names)
    typed = _typed(line, names)
    if typed is not line and len(typed) > max_bytes:
        raise NotAccepted("too_large", f"with its type, the event has more than {max_bytes:,} bytes", event.event_id)
    if typed is not line or b"\n" in event.frame or b"\r" in event.frame:
        event = parse(typed, max_bytes=len(typed))  # the digest must match the text that the journal stores
    if check is not None:
        check(event)
    return Publication(event.event_id, event.digest, typed, redeliver)


def plain_index(text: bytes, *, max_bytes: int) -> Index | None:
    """The index of lines that are accepted exactly as they are. None if any line needs a closer look."""
    lines = text.split(LINE_END)
    if b"\r" in text or list(map(bytes.strip, lines)) != lines or max(map(len, lines)) > max_bytes:
        return None
    ids: list[str] = []
    digests: list[bytes] = []
    for first in range(0, len(lines), NEAR):
        some = lines[first : first + NEAR]
        plain = plain_ids(some, LINE_END.join(some))
        if plain is None:
            return None
        ids += plain[0]
        digests += plain[1]
    return index_of(ids, digests, lines)


def wrapped(body: bytes, *, max_bytes: int, check: Check | None = None) -> Publication:
    """Any JSON object as an event, under the hash of its content unless it has an id.

    It is the event that ``publication`` makes of it, so that both ways in know the same object again. Only an object
    with a field ``cursor``, which no event may have, becomes the payload of one.
    """
    try:
        return publication(body, max_bytes=max_bytes, check=check)
    except Reserved:
        pass
    event = b'{"event_id":"%b","payload":%b}' % (content_id(body).encode(), on_one_line(body))
    return publication(event, max_bytes=max_bytes + 128, check=check)


def answer(placed: Placed | NotAccepted, event_id: str | None, line: int | UnsetType = UNSET) -> Answer:
    """The answer for one event. In a batch it carries the line number."""
    if isinstance(placed, NotAccepted):
        return Answer(line, placed.status, event_id, UNSET, str(placed))
    return Answer(line, placed.status, event_id, placed.cursor, SAYINGS.get(placed.status, UNSET))


def answers(placed: Sequence[Placed], published: Publications, lines: Sequence[int]) -> list[Answer]:
    """The answers for events of a batch that were stored or recognised."""
    return [
        Answer(line, one.status, event_id, one.cursor, SAYINGS.get(one.status, UNSET))
        for one, event_id, line in zip(placed, ids_of(published), lines, strict=True)
    ]


def accepted_lines(placed: Sequence[Placed], published: Publications, lines: Sequence[int]) -> bytes | None:
    """The JSON of all answers, made at once from the JSON of the ids. None unless all lines are new."""
    if not isinstance(placed, Accepted) or not isinstance(published, Lines) or "\\" in published.index.ids:
        return None
    ids = published.index.ids.encode()[2:-2].replace(b"%", b"%%")
    before, after = b'{"line":%d,"status":"accepted","event_id":"', b'","cursor":"%b%%d"}\n' % placed.stem.encode()
    # No id contains a quote, because there are no escapes. So this separator occurs only between ids.
    template = before + ids.replace(b'","', after + before) + after
    return template % tuple(chain.from_iterable(zip(lines, placed.numbers, strict=True)))


def _line(event: Event, names: Collection[str]) -> bytes:
    line = on_one_line(event.frame)
    if "event_id" in names:
        return line
    separator = b"" if line[1:-1].strip() == b"" else b","
    return b'{"event_id":"%b"%b%b' % (event.event_id.encode(), separator, line[1:])


def _typed(line: bytes, names: Collection[str]) -> bytes:
    """The event with its ``event_type`` as its ``type`` too, if it has no ``type`` and the other can be one."""
    if "event_type" not in names or "type" in names:
        return line
    raw = envelope.decode(line)["event_type"]
    try:
        kind = msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return line
    if len(kind) > MAX_ID_CHARACTERS:
        return line
    return b'{"type":%b,%b' % (bytes(raw), line[1:].lstrip())
