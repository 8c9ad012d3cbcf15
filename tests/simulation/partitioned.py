"""Schedules of the partitioned kind: each listener reads a share of the stream, and shares move.

The faults are the usual ones, among them a store or a journal that goes back. In some schedules one listener reads all,
as those of an earlier version do. In others one never reaches the source, although it is alive and has its share.
"""

import random
from urllib.parse import parse_qs, urlsplit

import msgspec

from tests.simulation.schedule import Happening, Schedule, schedule
from unlost.listener.source.stream.partitions import partition_of
from unlost.producer.stream.partitions import Header, Share, share_of

SALT = 151
READS_ALL, READS_NOTHING = 0.2, 0.85


def partitioned(seed: int) -> Schedule:
    """The partitioned schedule of this seed: the usual one, with more events, of which several come late."""
    usual, rng = schedule(seed), random.Random(seed * 2_654_435_761 + SALT)
    listeners = usual.listeners if len(usual.listeners) > 1 else (*usual.listeners, ("l1", rng.uniform(0, 2)))
    first = len(usual.happenings)
    more = tuple(
        Happening(f"e{number}", rng.uniform(0.0, 5.0), f"e{number}", seconds=rng.choice((0.0, 0.05, 0.2)))
        for number in range(first, first + rng.randint(2, 6))
    )
    kind, name = rng.random(), rng.choice(listeners)[0]
    happenings = usual.happenings + more
    if kind > READS_NOTHING:  # each takeover from a listener that does not read takes long, and such events need many
        happenings = tuple(msgspec.structs.replace(one, poison=False) for one in happenings)
    return msgspec.structs.replace(
        usual,
        listeners=listeners,
        happenings=happenings,
        resumes=True,
        acks=False,
        partitions=True,
        reads_all=name if kind < READS_ALL else "",
        reads_nothing=name if kind > READS_NOTHING else "",
        odd="" if kind > READS_NOTHING else usual.odd,  # else the only one that may work might be the one that cannot
    )


def asked_share(url: str) -> Share | None:
    """The partitions for which a listener asks."""
    asked = parse_qs(urlsplit(url).query).get("partitions")
    return share_of(asked[0]) if asked else None


def message_of(share: Share, stem: str, number: int, body: bytes) -> bytes:
    """The message of our producer about one entry."""
    is_in = partition_of(body) in share.partitions
    header = Header("partitions", stem, [number] if is_in else [], number)
    return b"\n".join([msgspec.json.encode(header), *([body] if is_in else [])])
