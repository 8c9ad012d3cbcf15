"""``python -m tests.measure_letters table``: how long lists, groups and searches take among a million letters.

``python -m tests.measure_letters file``: time and memory of ``dlq groups`` for a file of 300,000 letters.

``python -m tests.measure_letters replay``: how many letters a second a replay stores, beside the rate of live events.
``--handler plain``, ``transaction`` or ``instant`` measures both with a handler of ``ops/bench/handlers.py``. On a
machine that does other work too, believe the processor time: of the process that stores, and of servers.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import asyncpg
import uvloop

from tests.support.servers import running_postgres
from unlost.dlq.record.containment import alternatives
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.query import Selection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_store import TableLetters
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.bench import handlers, pipeline, replay
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.figures import Measured
from unlost.ops.bench.replay import AT_ONCE, DLQ, FIRST, GROUPS, TYPES, letters, write
from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.system import System

ROUNDS, FILLED_AT_ONCE = 5, 50_000


def main() -> None:
    """Measure, and print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "file", "replay"])
    parser.add_argument("--count", type=int, default=0, help="letters: a million, 300,000 or 50,000")
    parser.add_argument("--handler", default="", help="of the replay and of the live listener; none by default")
    parser.add_argument("--rounds", type=int, default=2, help="of replays")
    given = parser.parse_args()
    if given.what == "file":
        measure_file(given.count or 300_000)
    elif given.what == "table":
        asyncio.run(measure_table(given.count or 1_000_000))
    else:
        measure_replay(given.count or 50_000, given.handler, given.rounds)


# -- the table ------------------------------------------------------------------------------------


async def measure_table(count: int) -> None:
    """Fill the fleet's list and ask it what people and listeners ask."""
    with running_postgres() as server:
        database = Database(server.url, timeout=600.0)
        await migrate(database)
        table, store = LetterTable(database, token="t"), TableLetters(database)
        began = time.monotonic()
        await fill(database, count)
        print(f"{'filled':<44}{count:>12,} letters in {time.monotonic() - began:,.0f} s", flush=True)
        async with database.acquire() as connection:
            await connection.execute("vacuum analyze", timeout=600)
        middle = f"{count // 2:012x}{'0' * 16}"
        asked: dict[str, Callable[[], Awaitable[Any]]] = {
            "dlq groups": lambda: store.groups(Selection()),
            "groups of the console": store.board,
            "page, latest 100": lambda: store.latest(Selection(), 100),
            "page, open": lambda: store.latest(Selection(statuses=frozenset({"open"})), 100),
            "page of a group": lambda: store.latest(Selection(fingerprint=GROUP), 100),
            "page of a type": lambda: store.latest(Selection(types=frozenset({"type.7"})), 100),
            "page of an hour": lambda: store.latest(Selection(since=FIRST + 3_600, until=FIRST + 7_200), 100),
            "page, error text": lambda: store.latest(Selection(text="no such order 77"), 100),
            "page, payload field": lambda: store.latest(Selection(payload=alternatives("n=4711")), 100),
            "page, beginning of an id": lambda: store.latest(Selection(begins="order-4711"), 100),
            "one letter": lambda: store.latest(Selection(ids=(middle,)), 0),
            "its history": lambda: store.history([middle]),
            "letters of an event": lambda: store.latest(Selection(ids=("order-4711",)), 0),
            "sums of health": table.sums,
            "dlq stats": lambda: store.statistics(Selection()),
            "plan of all": lambda: store.plan(Selection(), 0),
            "plan of a group": lambda: store.plan(Selection(fingerprint=GROUP), 0),
        }
        for name, ask in asked.items():
            await report(name, ask)
        await database.close()


FILL = f"""
WITH detailed AS (
    INSERT INTO unlost.letter_details (letter_id, event_id, type, error_type, message, fingerprint, last_at)
    SELECT lpad(to_hex(n), 12, '0') || repeat('0', 16), 'order-' || n, 'type.' || n % {TYPES}, 'Error' || n % {GROUPS},
        'no such order ' || n, ($3::text[])[n % {GROUPS} + 1], to_timestamp({FIRST} + n)
    FROM generate_series($1::int, $2::int) n)
INSERT INTO unlost.letters (letter_id, instance_id, event_id, reason, error_class, stage, fingerprint, first_at,
    last_at, status, state_at)
SELECT lpad(to_hex(n), 12, '0') || repeat('0', 16), 'a', 'order-' || n, 'exhausted', 'transient', 'handle',
    ($3::text[])[n % {GROUPS} + 1], to_timestamp({FIRST} + n), to_timestamp({FIRST} + n),
    CASE WHEN n % 100 < 70 THEN 'resolved' WHEN n % 100 < 98 THEN 'open' ELSE 'archived' END,
    CASE WHEN n % 100 < 70 OR n % 100 >= 98 THEN to_timestamp({FIRST} + n + 1) END
FROM generate_series($1::int, $2::int) n"""
LINES = """
INSERT INTO unlost.letter_lines (letter_id, line)
SELECT lpad(to_hex(n), 12, '0') || repeat('0', 16), ($3::bytea[])[n % cardinality($3) + 1]
FROM generate_series($1::int, $2::int) n"""


async def fill(database: Database, count: int) -> None:
    """Fill the tables by statements of PostgreSQL. Lines repeat, since Python takes minutes for a million."""
    some = list(letters(AT_ONCE))
    fingerprints, lines = [one.fingerprint for one in some[:GROUPS]], [encode(one) for one in some]
    for first in range(0, count, FILLED_AT_ONCE):
        last = min(first + FILLED_AT_ONCE, count) - 1
        async with database.acquire() as connection:
            await connection.execute(FILL, first, last, fingerprints, timeout=600)
            await connection.execute(LINES, first, last, lines, timeout=600)


GROUP = next(letters(1)).fingerprint


async def report(name: str, ask: Callable[[], Awaitable[Any]]) -> None:
    """Print the first and the median time of a question."""
    times = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        await ask()
        times.append((time.monotonic() - began) * 1_000)
    print(f"{name:<44}{statistics.median(times):10,.1f} ms (first {times[0]:,.1f})", flush=True)


# -- a file ---------------------------------------------------------------------------------------


def measure_file(count: int) -> None:
    """Read a file's letters in a process of its own. Another one writes them: a child starts with our memory."""
    with tempfile.TemporaryDirectory() as directory:
        writer = multiprocessing.get_context("fork").Process(target=write, args=(Path(directory), count))
        writer.start()
        writer.join()
        for words in (["groups"], ["stats"], ["list", "--limit", "50"]):
            began = time.monotonic()
            process = subprocess.Popen([*DLQ, words[0], directory, *words[1:], "--json"], stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            assert not status
            seconds, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
            memory = used.ru_maxrss / 1024
            print(
                f"dlq {words[0]:<12}{count:>12,} letters: {seconds:.1f} s, of CPU {cpu:.1f} s, at most {memory:.0f} MB"
            )


# -- a replay -------------------------------------------------------------------------------------


def measure_replay(count: int, handler: str, rounds: int) -> None:
    """Measure live events and replays on the same servers, in turns. ``handler``: one of ``ops/bench/handlers.py``."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        layout = Layout(Path(name), free_ports(1), {"LOG_LEVEL": "warning"})
        system = System(layout, lambda _: None, threading.Event(), by_socket=True)
        try:
            system.start()
            for listener in system.listeners:  # they run only while they are measured
                listener.stop()
            uvloop.run(_measured_replay(system, Path(name), count, handler, rounds))
        finally:
            system.stop()


async def _measured_replay(system: System, directory: Path, count: int, handler: str, rounds: int) -> None:
    bed = Bed(system, await asyncpg.connect(system.database_url))
    try:
        for number in range(rounds):
            if handler:
                live = await handlers.stored(bed, handler, count=count)
            else:
                live = await pipeline.stored(bed, listeners=1, count=count, size=300, duplicates=0.0)
            show("live events", live)
            for kind in get_args(replay.Kind):
                again = await replay.replayed(
                    bed, kind, count=count, directory=directory / f"{number}{kind}", handler=handler
                )
                show(f"letters of a {kind}", again)
                print(f"{'':<20}{again.rate / live.rate:.2f} of the live rate", flush=True)
    finally:
        await bed.close()


def show(name: str, one: Measured) -> None:
    """Print one rate, and what an event costs."""
    print(
        f"{name:<20}{one.events:>10,}: {one.rate:,.0f} a second, µs of CPU each: {one.cost:.0f} here, "
        f"{one.servers / one.events * 1e6:.0f} in servers",
        flush=True,
    )


if __name__ == "__main__":
    main()
