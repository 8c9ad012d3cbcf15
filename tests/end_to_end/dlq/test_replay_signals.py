"""A replay on real servers that a signal ends at any moment: repeated, it stores and resolves everything once."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest

from tests.support.letters import letter, write
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.sidecar import read_records, sidecar_path
from unlost.dlq.replay.plan import INTERRUPTED
from unlost.listener.core.delivery import Delivery
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.taken_letters import LEASE_SECONDS

COUNT, AT_ONCE = 60, 24
IDS = [f"e{number}" for number in range(COUNT)]
DIRECTORY = "REPLAY_SIGNALS_DIRECTORY"
pytestmark = [pytest.mark.timeout(240), pytest.mark.database("migrated")]


async def handle(event: Delivery) -> None:
    """Wait while the test holds all handlers."""
    directory = Path(os.environ[DIRECTORY])
    (directory / f"begun-{event.event_id}").touch()
    await until(lambda: not (directory / "hold").exists())


async def until(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait for another process, by its files or rows."""
    for _ in range(2_000):
        found = holds()
        if (await found) if isinstance(found, Awaitable) else found:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError


class Scene:
    """Letters in a file and in the fleet's list, and replays of them."""

    def __init__(self, directory: Path, redis_url: str, database_url: str, connection: asyncpg.Connection) -> None:
        self.directory = directory
        self.path = directory / "letters.jsonl"
        self.redis_url = redis_url
        self.database_url = database_url
        self.connection = connection

    async def bury(self) -> None:
        letters = [letter(one, at=1_700_000_000.0 + number) for number, one in enumerate(IDS)]
        write(self.path, letters)
        database = Database(self.database_url)
        await migrate(database)
        await LetterTable(database, token="t").add("a", [Listed(one, encode(one), burial_of(one)) for one in letters])
        await database.close()

    async def start(self, place: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "unlost", "dlq", "replay", *([self.path] if place == "file" else []), "--json",
            "--handler", f"{__name__}:handle", "--other-handler", "--concurrency", str(AT_ONCE),
            "--redis-url", self.redis_url, "--database-url", self.database_url, "--lease", "3",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=os.environ | {DIRECTORY: str(self.directory)},
        )  # fmt: skip

    async def value(self, query: str, *given: object) -> int:
        found: int = await self.connection.fetchval(query, *given)
        return found

    # -- moments --------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Let every statement wait that changes this table."""
        locking = await asyncpg.connect(self.database_url)
        await locking.execute(f"BEGIN; LOCK TABLE unlost.{table} IN EXCLUSIVE MODE")
        try:
            yield
        finally:
            await locking.close()

    async def waits_for(self, table: str) -> bool:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass"
        return await self.value(query, f"unlost.{table}") > 0

    @contextlib.asynccontextmanager
    async def leasing(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        async with self.locked("letter_leases"):
            yield lambda: self.waits_for("letter_leases")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Callable[[], bool]]:
        (self.directory / "hold").touch()
        yield lambda: len(list(self.directory.glob("begun-*"))) >= 10
        (self.directory / "hold").unlink()

    @contextlib.asynccontextmanager
    async def recording(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        async with self.locked("letter_records"):
            yield lambda: self.waits_for("letter_records")

    @contextlib.asynccontextmanager
    async def recording_in_the_file(self) -> AsyncIterator[Callable[[], bool]]:
        with sidecar_path(self.path).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            inode = os.fstat(file.fileno()).st_ino
            yield lambda: any(
                "->" in one and f":{inode} " in one for one in Path("/proc/locks").read_text().split("\n")
            )

    # -- what became of it ----------------------------------------------------------------------

    async def gone(self) -> bool:
        """Whether no session of a replay is left. One that waited for a lock goes on for a moment after a kill."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> ''"
        return await self.value(query) == 0

    async def leases(self) -> list[float]:
        """For how many seconds each letter is still held."""
        query = "SELECT extract(epoch FROM until - clock_timestamp())::float8 FROM unlost.letter_leases"
        return [row[0] for row in await self.connection.fetch(query)]

    async def lapse(self) -> None:
        """Let the leases of a killed replay end sooner than by themselves."""
        await self.connection.execute("UPDATE unlost.letter_leases SET until = clock_timestamp()")

    async def resolved(self, place: str) -> Counter[str]:
        """How often each letter was resolved."""
        if place == "file":
            records = [record for _, record in read_records(sidecar_path(self.path)) if record is not None]
            return Counter(one.letter_id for one in records if one.what == "resolved")
        rows = await self.connection.fetch("SELECT letter_id FROM unlost.letter_records WHERE what = 'resolved'")
        return Counter(row["letter_id"] for row in rows)

    async def stored(self) -> list[str]:
        rows = await self.connection.fetch("SELECT event_id FROM unlost.events ORDER BY seq")
        return [row["event_id"] for row in rows]


@pytest.fixture
async def scene(tmp_path: Path, redis_url: str, database_url: str) -> AsyncIterator[Scene]:
    connection = await asyncpg.connect(database_url)
    made = Scene(tmp_path, redis_url, database_url, connection)
    await made.bury()
    yield made
    await connection.close()


Moment = Callable[[Scene], AbstractAsyncContextManager[Callable[[], Awaitable[bool]] | Callable[[], bool]]]


MOMENTS: dict[str, tuple[Moment, ...]] = {
    "list": (Scene.leasing, Scene.running, Scene.recording),
    "file": (Scene.leasing, Scene.running, Scene.recording_in_the_file),
}
CASES = [
    *((place, moment, one) for place in MOMENTS for moment in MOMENTS[place] for one in ("SIGTERM", "SIGKILL")),
    *((place, Scene.running, one) for place in MOMENTS for one in ("SIGINT", "SIGTERM SIGTERM")),
]


@pytest.mark.parametrize(("place", "moment", "signals"), CASES)
async def test_a_replay_that_a_signal_ended_is_repeated(scene: Scene, place: str, moment: Moment, signals: str) -> None:
    sent = [signal.Signals[one] for one in signals.split()]
    async with moment(scene) as reached:
        process = await scene.start(place)
        assert process.stderr is not None
        await until(reached)
        for number in sent:
            process.send_signal(number)
            if number is not signal.SIGKILL and number is sent[0]:
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await process.stderr.readuntil(b"interrupt again to end now\n")
        if len(sent) > 1 or signal.SIGKILL in sent:  # it waits for nothing
            await asyncio.wait_for(process.wait(), 60)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    await until(scene.gone)
    if signal.SIGKILL in sent:
        assert process.returncode == -signal.SIGKILL
        assert max(await scene.leases(), default=0.0) <= LEASE_SECONDS
        await scene.lapse()
    else:
        assert process.returncode == INTERRUPTED
        assert json.loads(out)["report"]["interrupted"]
        assert await scene.leases() == []
    before = len(await scene.stored())
    assert before < COUNT, "the signal came in the middle"

    repeated = await scene.start(place)
    out, err = await asyncio.wait_for(repeated.communicate(), 60)
    assert repeated.returncode == 0, err.decode()
    assert sorted(await scene.stored()) == sorted(IDS)
    assert {*(await scene.resolved(place)).values()} == {1}
    assert len(await scene.resolved(place)) == COUNT
    assert await scene.leases() == []
