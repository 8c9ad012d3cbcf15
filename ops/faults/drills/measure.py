"""Measures a drill from records alone: rows, handler runs, the producer's responses, samples of listeners' health.

It queries nothing. All times are seconds since the epoch, by the clock of one machine.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One row of ``events``."""

    event_id: str
    received_at: float
    processed_at: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the drill's handler, recorded when it began.

    ``kind`` is run, fail, hang, kill, replay, or strange (another handler than the group's ran).
    """

    kind: str
    at: float
    epoch: int
    attempt: int
    process: int
    event_id: str

    def line(self) -> bytes:
        """The run as a line of the file of runs."""
        return f"{self.kind} {self.at:.6f} {self.epoch} {self.attempt} {self.process} {self.event_id}\n".encode()

    @classmethod
    def of(cls, line: str) -> "Run":
        """Parse a line of the file of runs."""
        kind, at, epoch, attempt, process, event_id = line.split(" ", 5)
        return cls(kind, float(at), int(epoch), int(attempt), int(process), event_id)


@dataclass(frozen=True, slots=True)
class Sample:
    """A listener's health at one moment. ``well``: ready, in normal mode, all breakers closed."""

    at: float
    listener: str
    well: bool


@dataclass(frozen=True, slots=True)
class Moments:
    """When the damage was done (``struck``: its first fault was there), when healing began, and when it ended."""

    struck: float
    heal_began: float
    healed: float


def extra_runs(runs: Iterable[Run]) -> int:
    """Count runs beyond one per event, without replays and without runs that failed on purpose."""
    counted = Counter(run.event_id for run in runs if run.kind == "run")
    return sum(count - 1 for count in counted.values())


def progress_from_damage(rows: Iterable[StoredEvent], moments: Moments) -> float | None:
    """Seconds from the damage to the first row of an event that was received after the damage."""
    first = min((row.processed_at for row in rows if row.received_at > moments.struck), default=None)
    return None if first is None else first - moments.struck


def progress_from_heal(rows: Iterable[StoredEvent], moments: Moments) -> float | None:
    """Seconds from the end of healing to the first row after healing began; 0 if that row came before the end."""
    first = min((row.processed_at for row in rows if row.processed_at > moments.heal_began), default=None)
    return None if first is None else max(0.0, first - moments.healed)


def recovery(
    rows: Iterable[StoredEvent], samples: Iterable[Sample], accepted: Mapping[str, float], moments: Moments
) -> float | None:
    """Seconds from healing until every event accepted before it is stored, and every listener is and stays well."""
    waiting = (row.processed_at for row in rows if accepted.get(row.event_id, moments.healed) < moments.healed)
    caught_up = max(waiting, default=moments.healed)
    well = well_since(samples, moments.healed)
    return None if well is None else max(0.0, caught_up - moments.healed, well - moments.healed)


def well_since(samples: Iterable[Sample], start: float) -> float | None:
    """The time from which every listener was well; None if one was unwell or silent at the end."""
    since: dict[str, float | None] = {}
    for sample in samples:
        if not sample.well:
            since[sample.listener] = None
        elif since.setdefault(sample.listener, start) is None:
            since[sample.listener] = sample.at
    times = [start, *since.values()]
    return None if None in times else max(time for time in times if time is not None)


def felt(samples: Iterable[Sample], moments: Moments) -> bool:
    """Whether some listener was unwell after the damage."""
    return any(sample.at >= moments.struck and not sample.well for sample in samples)


def in_flight_pause(rows: Collection[StoredEvent], runs: Iterable[Run], moments: Moments) -> float | None:
    """Seconds from the damage until the last event was stored whose handler ran at that moment."""
    stored = {row.event_id: row.processed_at for row in rows}
    waits = [
        stored[run.event_id] - moments.struck
        for run in runs
        if run.kind == "run" and run.at < moments.struck < stored.get(run.event_id, 0.0)
    ]
    return max(waits, default=None)


def taken_over(rows: Iterable[StoredEvent], moments: Moments) -> float | None:
    """Seconds from the damage until the last event of a lost owner was stored by its new owner."""
    waits = [row.processed_at - moments.struck for row in rows if row.epoch > 1]
    return max(waits, default=None)


def p99(rows: Iterable[StoredEvent], begun: Mapping[str, float], since: float, until: float) -> float | None:
    """The 99th percentile of the seconds from publishing to the row, of events that were published in this time."""
    times = sorted(row.processed_at - begun[row.event_id] for row in rows if since <= begun[row.event_id] < until)
    return times[math.ceil(len(times) * 0.99) - 1] if times else None
