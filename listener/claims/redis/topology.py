"""Which node of a Redis Cluster keeps which hash slots, and which slots a group's claims are kept in. Pure.

A script runs on one node, and its keys share a slot. So a group uses one slot of each primary: the first of
``{group.0}``, ``{group.1}``, … that this primary owns. All listeners that see the same topology choose the same
slots. Listeners that see different ones have places with different names.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis.crc import key_slot
from redis.exceptions import InvalidResponse

SLOTS = 16_384
MOST_SHARDS = 64
"""The largest number of shards. More gain nothing: each batch would be split into smaller calls."""
TRIED = 2_048
"""How many tags are tried. A primary that owns none of their slots owns too few to matter."""
_HOST = re.compile(r"[0-9A-Za-z._:-]{1,255}")

Tag = Callable[[int], bytes]
"""Makes the hash tag with this number."""


class Node(NamedTuple):
    """A primary's address."""

    host: str
    port: int


class SlotRange(NamedTuple):
    """Slots from ``first`` to ``last``, and the primary that keeps them."""

    first: int
    last: int
    node: Node


def slot_ranges(reply: object, asked: str) -> list[SlotRange]:
    """Read the answer to ``CLUSTER SLOTS``, sorted. ``asked``: the host that was asked, which may not know its own."""
    if type(reply) is not list:
        raise _wrong(reply)
    return sorted(_slot_range(one, asked) for one in reply)


def _slot_range(one: object, asked: str) -> SlotRange:
    match one:
        case [int(first), int(last), [bytes() | None as host, int(port), *_], *_]:
            name = host.decode("ascii", "replace") if host else asked
            if 0 <= first <= last < SLOTS and 0 < port < 65_536 and _HOST.fullmatch(name):
                return SlotRange(first, last, Node(name, port))
    raise _wrong(one)


def shards(ranges: Sequence[SlotRange], tag: Tag) -> dict[Node, int]:
    """Choose the number of a hash tag for each primary, in ascending order."""
    firsts = [one.first for one in ranges]
    wanted = min(len({one.node for one in ranges}), MOST_SHARDS)
    found: dict[Node, int] = {}
    for number in range(TRIED):
        slot = key_slot(tag(number))
        at = bisect_right(firsts, slot) - 1
        if at >= 0 and slot <= ranges[at].last:
            found.setdefault(ranges[at].node, number)
            if len(found) == wanted:
                break
    return found


def _wrong(reply: object) -> InvalidResponse:
    return InvalidResponse(f"asked for hash slots, Redis answered {type(reply).__name__} {repr(reply)[:60]}")
