"""Which partitions of our own stream a listener reads, and how far the group has got. Pure.

Each listener computes its partitions from the members that it knows, by rendezvous hashing: each partition prefers
members in an order of its own, and a member takes at most its part. If two listeners know different members, they may
read the same partition, which claims decide, or neither does. So a partition that stands still is read by others as
well, whatever the reason is.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import urlsplit, urlunsplit
from zlib import crc32

import msgspec

from unlost.listener.core.cursor import ParsedCursor, parse_cursor
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.stream.lines import LARGEST, MOST, PARTITIONS

COUNT = 64
"""How many partitions a stream has for our listeners."""
PATIENCE = 10
"""After so many looks at a partition that stands still, the first other listener reads it, and so on."""
_STEM = re.compile(r"[!-~]{1,200}")


def partition_of(body: bytes) -> int:
    """Return the partition of an event, by its text."""
    return crc32(body) % COUNT


def row_of(source: str, partition: int) -> str:
    """Return the name under which the cursor of a partition is kept."""
    return f"{source}#{partition}/{COUNT}"


def with_partitions(url: str, partitions: Collection[int]) -> str:
    """Return the address that asks for these partitions alone."""
    parts = urlsplit(url)
    asked = f"{PARTITIONS}={','.join(map(str, sorted(partitions)))}/{COUNT}"
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, asked)))))


@lru_cache(maxsize=4)
def assigned(members: frozenset[str]) -> Mapping[int, str]:
    """Return the member that reads each partition. If a member leaves, few others than its partitions move."""
    most = -(-COUNT // len(members))
    ranked = sorted((_weight(one, partition), one, partition) for one in members for partition in range(COUNT))
    readers: dict[int, str] = {}
    loads = dict.fromkeys(members, 0)
    for _, member, partition in ranked:
        if partition not in readers and loads[member] < most:
            readers[partition] = member
            loads[member] += 1
    return readers


def preferred(members: Collection[str], partition: int) -> list[str]:
    """Return the members in the order in which they look after this partition."""
    return sorted(members, key=lambda one: _weight(one, partition))


def _weight(member: str, partition: int) -> bytes:
    return blake2b(f"{partition} {member}".encode(), digest_size=8).digest()


class PartitionShare:
    """The partitions of one listener: those that are assigned to it, and those that it looks after."""

    def __init__(self) -> None:
        self._me = ""
        self._members: frozenset[str] = frozenset()
        self._adopted: set[int] = set()
        self._still: dict[int, tuple[str | None, int]] = {}
        """The cursor of each partition that lagged at the last look, and at how many looks it was the same."""

    def update(self, me: str, members: Collection[str]) -> None:
        """Take note of the members. If they have changed, nothing is looked after any more."""
        now = frozenset({me, *members})
        if (me, now) != (self._me, self._members):
            self._me, self._members = me, now
            self._adopted.clear()
            self._still.clear()

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that this listener reads."""
        readers = assigned(self._members)
        return frozenset({partition for partition in readers if readers[partition] == self._me} | self._adopted)

    def look(self, lagging: Mapping[int, str | None]) -> None:
        """Look after partitions that stand still. ``lagging``: the cursors of those that this listener is ahead of."""
        counts = {}
        for partition, cursor in lagging.items():
            before, count = self._still.get(partition, (cursor, 0))
            counts[partition] = cursor, count + 1 if before == cursor else 1
        self._still = counts
        readers = assigned(self._members)
        for partition, (_, count) in counts.items():
            if count <= PATIENCE or partition in self._adopted:
                continue
            others = [one for one in preferred(self._members, partition) if one != readers[partition]]
            if self._me in others and count > PATIENCE * (1 + others.index(self._me)):
                self._adopted.add(partition)

    def outrun(self, partition: int) -> None:
        """Another listener is ahead of this one in the partition, so this one need not look after it."""
        self._adopted.discard(partition)


def settled_by_all(group: str | None, rows: Iterable[str | None], stems: Collection[str]) -> str | None:
    """Return the cursor up to which all partitions are settled; None if it is not further than the group's.

    ``group``: the group's cursor. ``rows``: the cursors of all partitions. A cursor counts only if its stem is one of
    ``stems``: of the history that was received.
    """
    before = None if group is None else parse_cursor(group)
    least: tuple[ParsedCursor, str] | None = None
    for row in rows:
        place = None if row is None or text_before(row) not in stems else parse_cursor(row)
        if place is None or (before is not None and place.journal == before.journal and place <= before):
            return None
        assert row is not None
        if least is None or place < least[0]:
            least = place, row
    return None if least is None else least[1]


def is_behind(row: str | None, cursor: str) -> bool:
    """Whether a partition's row does not say yet that everything up to this cursor is settled."""
    stored, mine = None if row is None else parse_cursor(row), parse_cursor(cursor)
    return stored is None or mine is None or stored.journal != mine.journal or stored < mine


def further(one: str | None, other: str | None) -> str | None:
    """Return the further of two cursors of one journal; of two journals, the first."""
    if one is None or other is None:
        return one or other
    here, there = parse_cursor(one), parse_cursor(other)
    comparable = here is not None and there is not None and here.journal == there.journal
    return other if comparable and here is not None and there is not None and there > here else one


def text_before(cursor: str) -> str:
    """Return a cursor without its number: it names the journal and the timeline."""
    return cursor[: cursor.rfind(".") + 1]


class Arrived(msgspec.Struct, frozen=True, gc=False):
    """An event that has arrived, with its partition and its cursor."""

    body: bytes
    partition: int
    cursor: str


class _Header(msgspec.Struct, frozen=True):
    unlost: str
    stem: str
    numbers: list[int]
    upto: int


_header = msgspec.json.Decoder(_Header).decode


class Arrivals:
    """Reads the messages of one session. Anything else than our producer sends ends the session."""

    def __init__(self, partitions: Collection[int]) -> None:
        self._partitions = partitions
        self._upto = 0
        self.cursor: str | None = None
        """Everything of these partitions up to here has arrived."""
        self.stems: set[str] = set()
        """The beginnings of all cursors that have arrived: the history of this session."""

    def read(self, messages: Sequence[bytes]) -> list[Arrived]:
        """Return the events of these messages."""
        return [one for message in messages for one in self._read(message)]

    def _read(self, message: bytes) -> list[Arrived]:
        head, *bodies = message.split(b"\n", MOST + 1)
        try:
            header = _header(head)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise _refused("it does not begin with a header") from None
        numbers = header.numbers
        if header.unlost != PARTITIONS or not _STEM.fullmatch(header.stem) or parse_cursor(f"{header.stem}1") is None:
            raise _refused("its header is invalid")
        if len(bodies) != len(numbers) or len(bodies) > MOST:
            raise _refused(f"it must carry as many events as numbers, at most {MOST:,}")
        ascending = [self._upto, *numbers]
        if sorted(set(ascending)) != ascending or not ascending[-1] <= header.upto < LARGEST:
            raise _refused("its numbers do not follow what was sent before")
        arrived = [
            Arrived(body, partition_of(body), f"{header.stem}{number}")
            for body, number in zip(bodies, numbers, strict=True)
        ]
        if any(one.partition not in self._partitions for one in arrived):
            raise _refused("it carries an event of another partition")
        self._upto, self.cursor = header.upto, f"{header.stem}{header.upto}"
        self.stems.add(header.stem)
        return arrived


def _refused(why: str) -> SourceEnded:
    return SourceEnded(Loss(f"the source sent a message that is not in the format of partitions: {why}"))
