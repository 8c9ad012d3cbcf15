"""A second shard: its listeners have the same producer and Redis, and a PostgreSQL of their own."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from unlost.ops.faults.drills import records
from unlost.ops.faults.drills.measure import StoredEvent
from unlost.ops.system.layout import Layout
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.system import System

FIRST, SECOND = "unlost-shard1of2", "unlost-shard2of2"


@dataclass(frozen=True, slots=True)
class SecondShard:
    """Where the second shard's rows and letters are."""

    layout: Layout
    database_url: str

    async def rows(self, prefix: str) -> list[StoredEvent]:
        """Return its rows of a drill."""
        return await records.rows_of(self.database_url, prefix, SECOND)

    async def count(self, prefix: str) -> int:
        """Count its rows."""
        return await records.count_of(self.database_url, prefix, SECOND)

    async def effects(self, prefix: str) -> Counter[str]:
        """Count the committed effects of its handlers."""
        return await records.effects_of(self.database_url, prefix)

    async def letters(self) -> list[str]:
        """The ids of its events with unresolved letters."""
        return await records.open_in_list_and(self.layout.letter_files, self.database_url, SECOND)


@contextmanager
def second_shard(system: System) -> Iterator[SecondShard]:
    """Run the second shard's PostgreSQL and listeners within the block."""
    first = system.layout
    data = first.data / "second"
    data.mkdir()
    data.chmod(0o711)  # if this user is root, PostgreSQL runs as another user
    server = PostgresServer(data / "postgres")
    server.start()
    try:
        extra = {**first.extra, "group": SECOND}
        layout = replace(first.with_listeners(len(first.listener_names)), data=data, extra=extra)
        children = layout.listeners(server.url, system.redis_url)
        try:
            for child in children:
                child.start()
            yield SecondShard(layout, server.url)
        finally:
            for child in children:
                child.ask_to_stop()
            for child in children:
                child.stop()
    finally:
        server.stop()
