"""``python -m tests.measure_letter_statements``: what each statement of a replay costs PostgreSQL and the replay.

It prints microseconds of processor time for a letter. They depend on other work of the machine less than times do.
"""

import argparse
import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable
from itertools import islice
from typing import TypeVar

from tests.support.servers import running_postgres
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import WAITING
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import BYTES_AT_ONCE
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.taken_letters import FIRST
from unlost.ops.bench import processor
from unlost.ops.bench.replay import AT_ONCE, letters

Did = TypeVar("Did")
PAGE, TOKEN = 1_000, "t"
COUNTED = """
SELECT relname AS name, n_tup_upd AS updated, n_tup_hot_upd AS hot, n_tup_ins AS inserted FROM pg_stat_user_tables
WHERE schemaname = 'unlost' AND n_tup_ins + n_tup_upd > 0 ORDER BY relname"""


class Costs:
    """Processor seconds by statement: of PostgreSQL's session, and of this process."""

    def __init__(self, session: int) -> None:
        self.there: defaultdict[str, float] = defaultdict(float)
        self.here: defaultdict[str, float] = defaultdict(float)
        self._session = session

    async def of(self, name: str, doing: Awaitable[Did]) -> Did:
        """Do something, and add what it cost."""
        there, here = processor.seconds([self._session], self_too=False), time.process_time()
        done = await doing
        self.here[name] += time.process_time() - here
        self.there[name] += processor.seconds([self._session], self_too=False) - there
        return done


def main() -> None:
    """Resolve letters page by page, and print what each statement cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50_000, help="letters")
    asyncio.run(measure(parser.parse_args().count))


async def measure(count: int) -> None:
    """Measure on a server of our own."""
    with running_postgres() as server:
        database = Database(server.url, timeout=600.0)
        await migrate(database)
        table = LetterTable(database, token=TOKEN)
        found = letters(count)
        while some := list(islice(found, AT_ONCE)):
            await table.add("a", [Listed(one, encode(one), burial_of(one), None) for one in some])
        async with database.acquire() as connection:
            await connection.execute("VACUUM ANALYZE", timeout=600)
            await connection.execute("SELECT pg_stat_reset()")
            costs = Costs(await connection.fetchval("SELECT pg_backend_pid()"))
            await replayed(table, connection, costs)
            for name in costs.here:
                there, here = costs.there[name] / count * 1e6, costs.here[name] / count * 1e6
                print(f"{name:<20}{there:8.1f} µs in PostgreSQL{here:8.1f} µs here")
            for row in await connection.fetch(COUNTED):
                changed = f"{row['updated']:>10,} updated, {row['hot']:,} of them in place"
                print(f"{row['name']:<20}{row['inserted']:>10,} inserted{changed}")
        await database.close()


async def replayed(table: LetterTable, connection: Connection, costs: Costs) -> None:
    """Do what a replay does to each page of letters, apart from storing their rows."""
    everything, place = Selection(), (FIRST, "")
    while True:
        asked = (*place, PAGE, False, BYTES_AT_ONCE)
        chosen = table.select("next", everything, *asked, takes=WAITING)
        rows = await costs.of("next", connection.fetch(chosen, *asked))
        if not rows:
            return
        place = rows[-1]["last_at"], rows[-1]["letter_id"]
        ids = [row["letter_id"] for row in rows]
        await costs.of("lease", connection.fetch(table.sql["lease"], ids, TOKEN, "me", 30.0))
        taken = await costs.of("taken", connection.fetch(table.select("taken"), ids, sorted(WAITING)))
        await costs.of("reading lines", table.entries(connection, taken))
        resolved = (ids, time.time(), "stored", "me", TOKEN)
        await costs.of("resolve", connection.fetch(table.sql["resolve"], *resolved))


if __name__ == "__main__":
    main()
