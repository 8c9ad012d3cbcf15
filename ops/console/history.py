"""Counts of events by type, and of letters by failure, in the last days. Bounded, without Prometheus.

Few rows are counted one by one. Of many, one in ``step`` is read by its number, so the cost is the same for a
thousand rows and for a billion, and the counts are estimates.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import msgspec

from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.reports import LetterCount, Reports

MOST_READ = 20_000
MOST_LETTERS = 100_000
BUCKETS = 72
SHOWN = 12
FRESH_SECONDS = 20.0
DAY = 86_400


class CountSeries(msgspec.Struct, frozen=True):
    """One type or failure, and how many there were in each span of time."""

    name: str
    total: int
    counts: tuple[int, ...]
    fingerprint: str = ""


class History(msgspec.Struct, frozen=True):
    """The counts since ``begin`` in spans of ``bucket_seconds``. ``exact``: each row was counted."""

    begin: float
    bucket_seconds: float
    exact: bool
    types: tuple[CountSeries, ...]
    groups: tuple[CountSeries, ...]
    letters_cut: bool
    """Whether only the latest letters were counted."""


class Histories:
    """Reads histories, each at most every few seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._kept: dict[int, tuple[float, History]] = {}

    async def of(self, days: int) -> History:
        """Return the history of the last days."""
        now = self._clock()
        if days not in self._kept or now - self._kept[days][0] >= FRESH_SECONDS:
            self._kept[days] = now, await self._read(days, now)
        return self._kept[days][1]

    async def _read(self, days: int, now: float) -> History:
        width = days * DAY / BUCKETS
        begin = (now // width + 1) * width - days * DAY
        async with self._database.acquire("reading the history") as connection:
            reports = Reports(connection, self._database.group)
            first, last = await first_since(reports, begin), await reports.last_seq()
            step = max(1, (last - first + 1) // MOST_READ)
            rows = await reports.types_in_time(first, last, step, begin, width)
            letters = await reports.letters_in_time(begin, width, MOST_LETTERS)
        types = by_name((name or "(no type)", number, count * step) for number, name, count in rows)
        letters_cut = sum(one.letters for one in letters) >= MOST_LETTERS
        return History(begin, width, step == 1, shaped(types), _groups(letters), letters_cut)


async def first_since(reports: Reports, at: float) -> int:
    """The number of the first row from this time on. Rows are numbered nearly in order of time."""
    low, high = 1, await reports.last_seq() + 1
    while low < high:
        middle = (low + high) // 2
        seq, processed_at = await reports.row_from(middle) or (high, at)
        low, high = (seq + 1, high) if processed_at < at else (low, middle)
    return low


def by_name(found: Iterable[tuple[str, int, int]]) -> dict[str, Counter[int]]:
    """Counts by name and span."""
    sums: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for name, number, count in found:
        sums[name][number] += count
    return sums


def shaped(sums: Mapping[str, Counter[int]], most: int = SHOWN) -> tuple[CountSeries, ...]:
    """The series with the highest totals; the others are one."""
    order = sorted(sums, key=lambda name: (-sums[name].total(), name))
    rest: Counter[int] = sum((sums[name] for name in order[most:]), Counter())
    shown = [(name, sums[name]) for name in order[:most]] + ([(f"{len(order) - most} others", rest)] if rest else [])
    return tuple(CountSeries(name, one.total(), tuple(one[number] for number in range(BUCKETS))) for name, one in shown)


def _groups(letters: Iterable[LetterCount]) -> tuple[CountSeries, ...]:
    found = list(letters)
    names = {one.fingerprint: f"{one.reason}: {one.error_type}" for one in found}
    series = shaped(by_name((one.fingerprint, one.number, one.letters) for one in found))
    return tuple(
        msgspec.structs.replace(
            one, name=names.get(one.name, one.name), fingerprint=one.name if one.name in names else ""
        )
        for one in series
    )
