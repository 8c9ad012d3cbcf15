"""Shards: groups with a PostgreSQL of their own, each of which stores its share of all events. Pure.

The name of a group says whether it is a shard: ``orders-shard1of2`` is the first of two. Nothing else says it, so no
command can have one setting right and the other wrong. The share of an event is found by its id alone: copies of an
event, and events of the same id with other content, belong to one shard, whose primary key decides.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple, Self
from zlib import crc32

MOST = 64
_NAME = re.compile(r"(.+)-shard([1-9][0-9]?)of([1-9][0-9]?)")
_MARK = re.compile(r"-shard[0-9]+of[0-9]+$")


class Shard(NamedTuple):
    """One of ``total`` shards."""

    base: str
    """The name that all shards share."""
    number: int
    total: int

    @classmethod
    def of_group(cls, group: str) -> Self | None:
        """Return the shard that a group is; None if it stores all events. ``ValueError`` if there is no such shard."""
        found = _NAME.fullmatch(group)
        if found is None or not int(found[2]) <= int(found[3]) <= MOST:
            if _MARK.search(group):
                raise ValueError(f"a shard is named as orders-shard1of2, with at most {MOST} shards, not {group!r}")
            return None
        return cls(found[1], int(found[2]), int(found[3]))

    def has(self, event_id: str) -> bool:
        """Whether this shard stores the event."""
        return self.number_of(event_id) == self.number

    def number_of(self, event_id: str) -> int:
        """Return the number of the shard that stores the event."""
        return crc32(event_id.encode("utf-8", "surrogatepass")) % self.total + 1

    def group_of(self, event_id: str) -> str:
        """Return the name of the group that stores the event."""
        return f"{self.base}-shard{self.number_of(event_id)}of{self.total}"

    @classmethod
    def divided_otherwise(cls, group: str, others: Iterable[str]) -> str | None:
        """Return another group that divides the same events in another way, or stores all of them; None if none does.

        Each of them would store once more the events that the other has stored.
        """
        whole = 0
        mine = cls.of_group(group) or cls(group, 1, whole)
        for other in others:
            theirs = cls.of_group(other) or cls(other, 1, whole)
            if theirs.base == mine.base and theirs.total != mine.total:
                return other
        return None

    def __str__(self) -> str:
        """Say which it is."""
        return f"{self.number} of {self.total}"
