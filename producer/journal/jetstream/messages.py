"""How an event is kept as a message of the stream. Pure.

The body is the event's text. One header, ``Unlost``, has everything else, so that each entry explains itself, also in a
stream that was restored or cut short:

    the timeline in which it was written, the bytes of all bodies up to its own, its time, its digest, its id

The number of an entry is its sequence number. Its subject says whether it is the first of its timeline. It also has two
hex digits of its id's hash, by which an id that the server has forgotten is found.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from unlost.producer.journal.port import Entry
from unlost.producer.journal.publications import DIGEST_BYTES, Publication
from unlost.producer.journal.timelines import Timeline

HEADER = "Unlost"
ID = "Nats-Msg-Id"
VERSION = "1"
BEGINS, GOES_ON = "b", "e"
ANY = "*.*"
KEY_BYTES = 24


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message to publish. ``mark``: what its header says."""

    subject: str
    headers: dict[str, str]
    body: bytes
    mark: str


class StoredMessage(msgspec.Struct, frozen=True, gc=False):
    """A message that was read. ``total``: the bytes of all bodies up to its own."""

    entry: Entry
    timeline: Timeline
    total: int
    mark: str


def subjects_of(stream: str) -> list[str]:
    """The subjects that a journal's stream takes."""
    return [f"{stream}.{BEGINS}.*", f"{stream}.{GOES_ON}.*"]


def key_of(publication: Publication) -> bytes:
    """The hash by which the server knows this id again: an id may have characters that no header can.

    ``ValueError`` if this cannot be stored.
    """
    if len(publication.digest) != DIGEST_BYTES or not isinstance(publication.body, bytes):
        raise ValueError(f"event {publication.event_id[:80]} has no digest or no body")
    return id_key(publication.event_id)


def id_key(event_id: str) -> bytes:
    """See ``key_of``."""
    return blake2b(event_id.encode(), digest_size=KEY_BYTES).digest()


def message_id(key: bytes) -> str:
    """The id under which the server knows a message again."""
    return urlsafe_b64encode(key).decode()


def bucket_of(key: bytes) -> str:
    """The part of a subject by which an id is found."""
    return f"{key[0]:02x}"


def message_of(
    stream: str, one: Publication, key: bytes, known_as: str, timeline: Timeline, *, begins: bool, total: int, at: float
) -> Message:
    """The message for an event. ``known_as``: the id that the server must not know yet."""
    name = f"{timeline.ordinal}-{timeline.random}"
    mark = f"{VERSION} {name} {total} {at!r} {one.digest.hex()} {json.dumps(one.event_id)}"
    subject = f"{stream}.{BEGINS if begins else GOES_ON}.{bucket_of(key)}"
    return Message(subject, {ID: known_as, HEADER: mark}, one.body, mark)


def stored(number: int, mark: str | None, body: bytes) -> StoredMessage | None:
    """Return the content of a message of the stream; None if no producer has written it."""
    if mark is None:
        return None
    try:
        version, name, total, at, digest, event_id = mark.split(" ", 5)
        ordinal, random = name.split("-")
        entry = Entry(number, json.loads(event_id), bytes.fromhex(digest), body, float(at))
        found = StoredMessage(entry, Timeline(int(ordinal), random, number), int(total), mark)
    except ValueError:
        return None
    return found if version == VERSION and isinstance(entry.event_id, str) else None


def mark_in(headers: Mapping[str, str] | None) -> str | None:
    """Our header among those that the library has read."""
    return None if headers is None else headers.get(HEADER)


def mark_in_text(headers: bytes) -> str | None:
    """Our header in the text of all headers."""
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == HEADER.encode():
            return value.strip().decode("ascii", "replace")
    return None
