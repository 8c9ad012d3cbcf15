"""The record of a drill's feed, one line for each act, and the verdict on it. Reading and judging are pure.

The kinds are ``joined`` and ``left`` (a connection), ``sent`` and ``acknowledged`` (an event on a connection), and
``ended`` (the feed ended a connection, or asked for a new one; its last field says how).
"""

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unlost.ops.faults.drills.measure import StoredEvent
from unlost.ops.kit.telemetry.counted import counted

MOVE, ABORT = "move", "abort"
PLAN = (MOVE, "1001", MOVE, "1012", ABORT, "1000", MOVE, "4000", MOVE)
"""How connections end, one after the other."""


@dataclass(frozen=True, slots=True)
class FeedAct:
    """One act of the feed."""

    kind: str
    at: float
    connection: int
    what: str = ""


class FeedRecord:
    """Writes what the feed does. Each line is one append, so a reader sees whole lines."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, kind: str, connection: int, what: str = "") -> None:
        """Write one act."""
        os.write(self._file, f"{kind} {time.time():.6f} {connection} {what}\n".encode())


def acts_in(path: Path) -> list[FeedAct]:
    """Read a record; a line that is still being written is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            kind, at, connection, what = line[:-1].split(" ", 3)
            found.append(FeedAct(kind, float(at), int(connection), what))
    return found


def id_in(body: bytes) -> str:
    """The id of an event in our envelope."""
    return str(json.loads(body)["event_id"])


Judge = Callable[[Collection[FeedAct], Collection[StoredEvent], Collection[str]], Iterator[str]]
"""Says what is wrong with a record, all rows, and the ids of all letters."""


def moving(acts: Collection[FeedAct], rows: Collection[StoredEvent], letters: Collection[str]) -> Iterator[str]:
    """Judge a feed that ends connections as planned, and sends nothing again."""
    yield from _stored(acts, rows, letters)
    ended = [act for act in acts if act.kind == "ended"]
    if missing := sorted((Counter(PLAN) - Counter(act.what for act in ended)).elements()):
        yield f"the feed did not end connections as planned: {', '.join(missing)} did not happen"
    receivers = Counter(act.what for act in acts if act.kind == "sent")
    if 1 not in receivers.values():
        yield "no event was sent to one listener alone, so nothing was proved"
    left_first = sum(not _joined_before_leaving(act, acts) for act in ended if act.what == MOVE)
    if left_first:
        yield f"{counted(left_first, 'connection was', 'connections were')} left before the new one was open"


def _joined_before_leaving(move: FeedAct, acts: Iterable[FeedAct]) -> bool:
    for act in acts:
        if act.at > move.at and act.kind == "joined":
            return True
        if act.at > move.at and act.kind == "left" and act.connection == move.connection:
            return False
    return False


def acknowledged(acts: Collection[FeedAct], rows: Collection[StoredEvent], letters: Collection[str]) -> Iterator[str]:
    """Judge a feed that sends again whatever is not acknowledged."""
    yield from _stored(acts, rows, letters)
    stored = {row.event_id: row.processed_at for row in rows}
    acknowledged_at: defaultdict[str, list[float]] = defaultdict(list)
    for act in acts:
        if act.kind == "acknowledged":
            acknowledged_at[act.what].append(act.at)
    early = [one for one, at in acknowledged_at.items() if one not in letters and min(at) < stored.get(one, min(at))]
    nothing = [one for one in acknowledged_at if one not in stored and one not in letters]
    if early or nothing:
        wrong = counted(len(early) + len(nothing), "event was", "events were")
        yield f"{wrong} acknowledged without a row or dead letter"
    times = Counter(act.what for act in acts if act.kind == "sent")
    if waiting := times.keys() - acknowledged_at.keys():
        yield f"{counted(len(waiting), 'event was', 'events were')} never acknowledged"
    if max(times.values(), default=0) < 2:
        yield "no event was sent again, so nothing was proved"


def _stored(acts: Collection[FeedAct], rows: Collection[StoredEvent], letters: Collection[str]) -> Iterator[str]:
    """Each event that the feed sent ended, and nothing else was stored."""
    sent = {act.what for act in acts if act.kind == "sent"}
    ended = {row.event_id for row in rows} | set(letters)
    if missing := sent - ended:
        yield f"{counted(len(missing), 'event')} of the feed: neither row nor dead letter"
    if strange := ended - sent:
        those = counted(len(strange), "row or letter is", "rows or letters are")
        yield f"{those} no event of the feed, such as {min(strange)!r}"
