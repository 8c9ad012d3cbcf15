"""A letter as PostgreSQL needs it: its burial, and the frame that is offered again. Pure."""

import hashlib
import sys

import msgspec

from unlost.dlq.record.event import content_digest, event_of
from unlost.dlq.record.letter import Letter
from unlost.listener.core.cause import UNCLAIMED
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import Event, parse
from unlost.listener.core.in_flight import conflict_claim, effect_claim, invalid_claim
from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.dead_letters import Burial, Resolved


def resolved_of(letter: Letter) -> Resolved:
    """Return the claim of a resolved letter's event, by the rules of a replay."""
    try:
        event = _event_of(letter)
    except InvalidEvent:
        request = invalid_claim(digest_of(letter))
        return Resolved(Burial(request.event_id, request.digest, letter.letter_id, claimed=False), "")
    claimed = is_claimed(letter)
    burial = burial_of(letter) or Burial(event.event_id, content_digest(letter, event), letter.letter_id, claimed)
    return Resolved(burial, event.event_id)


def _event_of(letter: Letter) -> Event:
    """The event of a letter; of an encoded one, its id and type alone count."""
    if letter.coded is None:
        return event_of(letter, max_bytes=sys.maxsize)
    if letter.event is None:
        raise InvalidEvent("it is no event")
    return parse(letter.event, max_bytes=sys.maxsize)


def frame_of(letter: Letter) -> bytes | Oversized:
    """Return the part of a letter that is offered again."""
    if letter.raw_length is not None:
        return Oversized(letter.raw_length, digest_of(letter), letter.raw or b"")
    return letter.event or letter.raw or b""


def digest_of(letter: Letter) -> bytes:
    """Return the SHA-256 of an invalid frame, even if only its beginning was kept."""
    if letter.coded is not None:
        return bytes.fromhex(letter.coded.sha256)
    if letter.raw_sha256 is not None:
        return bytes.fromhex(letter.raw_sha256)
    return hashlib.sha256(letter.raw or b"").digest()


def burial_of(letter: Letter) -> Burial | None:
    """Return the claim of a letter's event; None if today's rules cannot read the event."""
    if letter.event is None:
        request = invalid_claim(digest_of(letter))
        return Burial(request.event_id, request.digest, letter.letter_id, letter.reason not in UNCLAIMED)
    try:
        event = parse(letter.event or b"", max_bytes=sys.maxsize)
    except InvalidEvent:
        return None
    if letter.coded is not None:
        event = msgspec.structs.replace(event, digest=content_digest(letter, event))
    claim_id = _claim_id(letter, event)
    return Burial(claim_id, event.digest, letter.letter_id, is_claimed(letter), letter.order_key, letter.stops)


def is_claimed(letter: Letter) -> bool:
    """Whether only this letter may become the event's row. So it is, if it blocks a key: others wait for it."""
    return letter.reason not in UNCLAIMED or letter.order_key is not None


def _claim_id(letter: Letter, event: Event) -> str:
    if letter.effect is not None:
        return effect_claim(event, letter.effect).event_id
    return conflict_claim(event).event_id if letter.reason == "conflict" else event.event_id
