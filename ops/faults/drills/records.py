"""The records of one drill (rows, letters, effects of handlers), and whether no event is lost or doubled."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from unlost.dlq.record.file import DamagedLine, FileError, read_letters
from unlost.dlq.record.letter_state import OPEN
from unlost.dlq.record.sidecar import states
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS
from unlost.listener.store.postgres.reports import Reports
from unlost.listener.store.postgres.statements import DEFAULT_GROUP
from unlost.ops.faults.drills.measure import StoredEvent
from unlost.ops.faults.drills.stage import Stage, StageError

EFFECTS = "create table if not exists drill_effects (event_id text not null)"
TIMES = "select event_id, count(*) as times from drill_effects where starts_with(event_id, $1) group by event_id"
REACHED_WITHIN = 20.0
LETTERS_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Records:
    """Records at one moment. ``letters``: events with unresolved letters. ``effects``: committed effects per event."""

    rows: list[StoredEvent]
    letters: list[str]
    effects: Counter[str] = field(default_factory=Counter)

    def lost(self, accepted: Collection[str]) -> list[str]:
        """Accepted events that are neither a row nor a letter."""
        ended = {row.event_id for row in self.rows} | set(self.letters)
        return [event_id for event_id in accepted if event_id not in ended]

    def doubled(self) -> list[str]:
        """Events with more than one row or letter, or with more or fewer committed effects than rows."""
        counts = Counter(row.event_id for row in self.rows) + Counter(self.letters)
        wrong = {event_id for event_id, count in counts.items() if count > 1}
        if self.effects:
            stored = Counter(row.event_id for row in self.rows)
            wrong |= {event_id for event_id in stored | self.effects if stored[event_id] != self.effects[event_id]}
        return sorted(wrong)


async def connected(database_url: str) -> asyncpg.Connection:
    """Connect, and try again until PostgreSQL accepts."""
    deadline = time.monotonic() + REACHED_WITHIN
    while True:
        try:
            return await asyncpg.connect(database_url, timeout=2, command_timeout=30)
        except LIBRARY_ERRORS as error:
            if time.monotonic() > deadline:
                raise StageError(f"PostgreSQL does not answer ({error}); is the system of the drill up?") from error
        await asyncio.sleep(0.1)


async def locked(database_url: str) -> asyncpg.Connection:
    """Return a connection that holds a lock on the table of events until it is closed."""
    connection = await connected(database_url)
    await connection.execute("begin")
    await Reports(connection).lock_rows()
    return connection


@asynccontextmanager
async def _connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connected(database_url)
    try:
        yield connection
    finally:
        connection.terminate()


async def prepare(database_url: str) -> None:
    """Create the table in which handlers' transactions record their effects."""
    async with _connection(database_url) as connection:
        await connection.execute(EFFECTS)


async def rows_of(database_url: str, prefix: str, group: str = DEFAULT_GROUP) -> list[StoredEvent]:
    """Return the rows of a drill."""
    async with _connection(database_url) as connection:
        return [StoredEvent(*row) for row in await Reports(connection, group).rows_of_drill(prefix)]


def open_letters(files: Iterable[Path]) -> list[str]:
    """The ids of events with unresolved letters in these files."""
    try:
        return [event_id for file in files if file.exists() for _, event_id in _open_in(file)]
    except FileError as error:
        raise StageError(str(error)) from error


async def open_in_list_and(files: Iterable[Path], database_url: str, group: str = DEFAULT_GROUP) -> list[str]:
    """Return the ids of events with unresolved letters, in the fleet's list and in files that it lacks.

    If PostgreSQL does not answer, the files alone count.
    """
    files = tuple(files)
    try:
        connection = await asyncpg.connect(database_url, timeout=LETTERS_TIMEOUT, command_timeout=LETTERS_TIMEOUT)
    except (OSError, asyncpg.PostgresError):
        return open_letters(files)
    try:
        reports = Reports(connection, group)
        in_files = {letter_id: event_id for file in files if file.exists() for letter_id, event_id in _open_in(file)}
        listed = await reports.listed_letters(list(in_files))
        only = {letter_id: event_id for letter_id, event_id in in_files.items() if letter_id not in listed}
        return list((only | await reports.open_letters()).values())
    except (OSError, asyncpg.PostgresError):
        return open_letters(files)
    except FileError as error:
        raise StageError(str(error)) from error
    finally:
        connection.terminate()


def _open_in(file: Path) -> Iterator[tuple[str, str]]:
    known = states(file)
    for found in read_letters(file):
        if not isinstance(found, DamagedLine) and known.get(found.letter.letter_id, OPEN).status != "resolved":
            yield found.letter.letter_id, found.letter.event_id or ""


async def count_of(database_url: str, prefix: str, group: str = DEFAULT_GROUP) -> int:
    """Count the rows of a drill, with one try and a short limit."""
    try:
        connection = await asyncpg.connect(database_url, timeout=1, command_timeout=1)
        try:
            return await Reports(connection, group).count_of_drill(prefix)
        finally:
            connection.terminate()
    except LIBRARY_ERRORS as error:
        raise StageError(f"PostgreSQL does not answer: {error}") from error


async def effects_of(database_url: str, prefix: str) -> Counter[str]:
    """Count the committed effects of each event's handler."""
    async with _connection(database_url) as connection:
        return Counter({one["event_id"]: one["times"] for one in await connection.fetch(TIMES, prefix)})


async def read(stage: Stage, prefix: str) -> Records:
    """Read all records as they are now."""
    letters = [event_id for event_id in await stage.letters() if event_id.startswith(prefix)]
    return Records(await stage.rows(prefix), letters, await stage.effects(prefix))
