"""Mistakes about partitions that can be built in. Partitioned schedules must find them.

A mistake about the one or the other of two guards would be hidden by the second: partitions that do not move are looked
after by others. So the first one disables both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unlost.listener.core.watermark import Watermark
from unlost.listener.source.stream import partitioned as partitioned_module
from unlost.listener.source.stream import partitions as partitions_module
from unlost.listener.source.stream.partitioned import PartitionedStream, PartitionSession
from unlost.listener.source.stream.partitions import PartitionShare

REACHED = {
    PartitionedStream: ("_after",),
    PartitionSession: ("_abort", "_advance", "_link", "_progress", "_save_one", "_watermarks"),
}
"""The private names of the product on which these mistakes depend (``mutations.py``)."""
Patch = tuple[Any, str, Callable[[Any], Any]]


def _first_members_for_ever(real: Any) -> Any:
    def update(self: PartitionShare, me: str, members: Any) -> None:
        if not vars(self).setdefault("knows", []):
            vars(self)["knows"].append(True)
            real(self, me, members)

    return update


def _saved_when_taken(real: Any) -> Any:
    async def save(self: PartitionSession, partition: int, rows: dict[str, str]) -> None:
        kept = self._watermarks
        self._watermarks = {one: Watermark() for one in kept}
        await real(self, partition, rows)
        self._watermarks = kept

    return save


def _only_rows_there_are(real: Any) -> Any:
    def settled(group: str | None, rows: Sequence[str | None], stems: Any) -> str | None:
        return real(group, [row for row in rows if row is not None], stems)

    return settled


def _furthest(_: Any) -> Any:
    def settled(group: str | None, rows: Sequence[str | None], stems: Any) -> str | None:
        return max(filter(None, rows), key=lambda row: int(row.rpartition(".")[2]), default=None)

    return settled


def _begins_at_its_rows(real: Any) -> Any:
    async def after(self: Any, cursor: Any) -> str | None:
        where, names = self.progress, [partitions_module.row_of(self.name, one) for one in range(64)]
        rows: Mapping[str, str] = await where.cursors.read_all(names, where.group)
        group: str | None = await real(self, cursor)
        for row in rows.values():
            group = partitions_module.further(group, row)
        return group

    return after


def _link_only(_: Any) -> Any:
    return lambda self: self._link.abort()


async def _never_reset(self: PartitionSession, name: str, cursor: str) -> str | None:
    where = self._progress
    return await where.cursors.advance(name, where.group, cursor, where.store())


PARTITION_MUTATIONS: Mapping[str, tuple[str, list[Patch]]] = {
    "partitions-stay": (
        "a listener keeps the partitions of its first members, and looks after no other",
        [(PartitionShare, "update", _first_members_for_ever), (PartitionShare, "look", lambda _: lambda *_: None)],
    ),
    "partitions-unattended": (
        "nobody looks after a partition whose reader is alive and does not read",
        [(PartitionShare, "look", lambda _: lambda *_: None)],
    ),
    "partitions-saved-when-taken": (
        "a partition's cursor passes what has been taken and is not settled",
        [(PartitionSession, "_save_one", _saved_when_taken)],
    ),
    "partitions-without-rows": (
        "partitions without a cursor do not hold the group's cursor back",
        [(partitioned_module, "settled_by_all", _only_rows_there_are)],
    ),
    "partitions-furthest": (
        "the group's cursor follows the furthest partition",
        [(partitioned_module, "settled_by_all", _furthest)],
    ),
    "partitions-begin-further": (
        "a session begins behind the furthest partition instead of the group's cursor",
        [(PartitionedStream, "_after", _begins_at_its_rows)],
    ),
    "partitions-saved-after-abort": (
        "what was settled in a PostgreSQL that went back moves cursors of partitions",
        [(PartitionSession, "_abort", _link_only)],
    ),
    "partitions-of-another-history": (
        "the cursor of a partition stays in a journal that is gone",
        [(PartitionSession, "_advance", lambda _: _never_reset)],
    ),
}
"""Mistakes about partitions. Partitioned schedules find each."""
