"""Measures the journal in PostgreSQL beside the one in a file, in one run: ``python -m tests.measure_journals``.

Rounds of both take turns. A batch is what a busy producer commits at once; a lone event waits for its own commit. The
processor time, with that of PostgreSQL, says what a busy machine hides.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from unlost.ops.bench import processor
from unlost.ops.bench.load import events
from unlost.ops.system.postgres import PostgresServer
from unlost.producer.journal.port import Journal
from unlost.producer.journal.postgres.adapter import PostgresJournal
from unlost.producer.journal.publications import Lines, lines_of
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.publish.accept import publication

ROUNDS = 3
COMMIT = 4_096
BATCHES = 4
LONE = 300
SIZE = 300
LARGEST = 1 << 20


def batches(run: str, count: int, each: int) -> list[Lines]:
    """``count`` batches of new events."""
    lines = [publication(line, max_bytes=LARGEST) for line in events(count * each, run, SIZE)]
    return [lines_of(lines[first : first + each]) for first in range(0, count * each, each)]


def seconds_of(journal: Journal, some: list[Lines]) -> Iterator[float]:
    """The seconds of each commit."""
    for one in some:
        started = time.perf_counter()
        journal.append([one], time.time())
        yield time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="unlost-journals-") as directory:
        data = Path(directory)
        data.chmod(0o711)
        server = PostgresServer(data / "postgres", 0)
        server.start()
        try:
            journals: dict[str, Journal] = {
                "file": SqliteJournal(data / "journal.sqlite3"),
                "postgresql": PostgresJournal(server.url),
            }
            rates: dict[str, list[float]] = {name: [] for name in journals}
            lone: dict[str, list[float]] = {name: [] for name in journals}
            used = dict.fromkeys(journals, 0.0)
            for number in range(ROUNDS):
                for name, journal in journals.items():
                    some = batches(f"b{number}", BATCHES, COMMIT)
                    before = processor.seconds((server.child.pid,))
                    taken = sum(seconds_of(journal, some))
                    used[name] += processor.seconds((server.child.pid,)) - before
                    rates[name].append(BATCHES * COMMIT / taken)
                    lone[name] += seconds_of(journal, batches(f"l{number}", LONE, 1))
            for name in journals:
                cuts = statistics.quantiles(lone[name], n=100)
                print(
                    f"{name:<11} batches {statistics.median(rates[name]):>9,.0f}/s"
                    f" ({min(rates[name]):,.0f} to {max(rates[name]):,.0f})"
                    f"   {used[name] / (ROUNDS * BATCHES * COMMIT) * 1e6:.1f} µs of processors"
                    f"   lone p50 {cuts[49] * 1000:.2f} ms, p99 {cuts[98] * 1000:.2f} ms"
                )
            for journal in journals.values():
                journal.close()
        finally:
            server.stop()


if __name__ == "__main__":
    main()
