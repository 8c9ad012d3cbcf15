"""The answers that Redis may give to each call. Pure. Any other raises ``InvalidResponse`` and is not believed.

A server that speaks the protocol well but answers something else is not a Redis with our claims. It may be a proxy in
the wrong place, another service, or a connection whose answers shifted by one. It is treated as lost.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis.exceptions import InvalidResponse

from unlost.listener.core.claim import Answer, Dead, Done, Held, Lapsed, Verdict, Won
from unlost.listener.core.store_mark import Remembered

_answer = struct.Struct(">BIII")
_PLACE = re.compile(rb"([0-9a-f]{1,64}\.[0-9a-zA-Z]{1,64}) ([0-9]{1,2}\.[0-9]{4})")
_REMEMBERED = re.compile(rb"(?:([0-9]{1,18}) ([0-9a-f]{8}))?")
_YES, _NO = ord("1"), ord("0")
_FRESH = Won(1, 0)
_LARGEST = 2**31 - 1
"""PostgreSQL stores these numbers as ``integer``."""


def _won(epoch: int, takeovers: int, alone: int) -> Answer:
    if epoch == 1 and not takeovers:
        return _FRESH
    if not epoch or max(epoch, takeovers, alone) > _LARGEST:
        raise InvalidResponse(f"epoch {epoch}, {takeovers} takeovers")
    return Won(epoch, takeovers, alone)


_ANSWERS: dict[int, Callable[[int, int, int], Answer]] = {
    1: _won,
    2: lambda milliseconds, same, _: Held(milliseconds / 1000, bool(same)),
    3: lambda _, same, company: Lapsed(bool(same), company),
    4: lambda _, same, __: Done(bool(same)),
    5: lambda _, same, __: Dead(bool(same)),
}


_SETTLED: dict[int, Verdict] = {4: "done", 5: "dead"}
RECORD = 16
"""Bytes of a settled record with its proof, without its state."""


class Proof(NamedTuple):
    """A settled record that is to be verified."""

    verdict: Verdict
    record: bytes


class Place(NamedTuple):
    """A server that keeps claims."""

    name: bytes
    """Its run id and its mark."""
    fill: float
    """The share of its memory that is used; 0 if it makes room by itself."""


def place(reply: object) -> Place:
    """Read a place's name, and how full it is."""
    if type(reply) is not bytes or not (match := _PLACE.fullmatch(reply)):
        raise _wrong("the name of a place", reply)
    return Place(match[1], float(match[2]))


def scanned(reply: object) -> tuple[bytes, list[bytes]]:
    """Read a page of keys, and the cursor of the next one."""
    match reply:
        case [bytes(cursor), list(keys)] if cursor.isdigit() and {*map(type, keys)} <= {bytes}:
            return cursor, keys
    raise _wrong("a page of keys", reply)


def counted(reply: object) -> int:
    """Read a number of keys."""
    if type(reply) is not int or reply < 0:
        raise _wrong("a number of keys", reply)
    return reply


def remembered(reply: object) -> Remembered | None:
    """Read what was known of a generation of the store."""
    if type(reply) is not bytes or not (match := _REMEMBERED.fullmatch(reply)):
        raise _wrong("how far the store had come", reply)
    return Remembered(int(match[1]), match[2].decode()) if reply else None


def answers(reply: object, count: int) -> Sequence[Answer]:
    """Read the answers to ``count`` claims."""
    if type(reply) is not bytes or len(reply) != count * _answer.size:
        raise _wrong(f"what became of {count} claims", reply)
    try:
        return [_ANSWERS[kind](a, b, c) for kind, a, b, c in _answer.iter_unpack(reply)]
    except KeyError as error:
        raise InvalidResponse(f"Redis answered a claim with {error.args[0]}, which means nothing") from None


def proven_answers(reply: object, count: int) -> Sequence[Answer | Proof]:
    """Read the answers to ``count`` claims, after which the settled records follow."""
    if type(reply) is not bytes or len(reply) < (size := count * _answer.size):
        raise _wrong(f"what became of {count} claims", reply)
    found: list[Answer | Proof] = [*answers(reply[:size], count)]
    for i, kind in enumerate(reply[: size : _answer.size]):
        if (verdict := _SETTLED.get(kind)) is not None:
            found[i] = Proof(verdict, reply[size : size + RECORD])
            size += RECORD
    if len(reply) != size:
        raise _wrong(f"the records of {count} claims", reply)
    return found


def marks(reply: object, count: int) -> Sequence[bool]:
    """Read one yes or no for each of ``count`` events."""
    if type(reply) is not bytes or len(reply) != count or not {*reply} <= {_YES, _NO}:
        raise _wrong(f"yes or no for {count} events", reply)
    return [mark == _YES for mark in reply]


def nothing(reply: object, count: int) -> Sequence[None]:
    """Check that the reply is empty: the call was carried out."""
    if reply != b"":
        raise _wrong("nothing", reply)
    return [None] * count


def records(reply: object, count: int) -> Sequence[bytes | None]:
    """Check that these are ``count`` records, each of them None if there is none."""
    if type(reply) is not list or len(reply) != count or not {*map(type, reply)} <= {bytes, type(None)}:
        raise _wrong(f"{count} records", reply)
    return reply


def _wrong(wanted: str, reply: object) -> InvalidResponse:
    shown = repr(reply[:8] if isinstance(reply, bytes | str | list) else reply)[:60]
    return InvalidResponse(f"asked for {wanted}, Redis answered {type(reply).__name__} {shown}")
