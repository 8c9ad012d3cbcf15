"""Listeners in this process, on real servers. Every fact is kept, so that tests can wait for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.handlers import RUNS
from unlost.listener.app.daemon import ListenerDaemon
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.facts import EventsDuplicate, EventsStored, Fact, FramesUnread


class Heard:
    """Facts, in order, and a way to wait until they show something."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []
        self._changed = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()
        RUNS.watchers.add(self)

    def __call__(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.wake()

    def wake(self) -> None:
        """Make waiting tests check again."""
        task = asyncio.create_task(self._tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def of(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def ids(self, kind: type[Fact]) -> list[str]:
        return [event_id for fact in self.of(kind) for event_id in fact.event_ids]

    @property
    def ended(self) -> int:
        """How many events ended here as rows or duplicates, whether they were read or not."""
        unread = sum(fact.count for fact in self.facts if isinstance(fact, FramesUnread))
        return len(self.ids(EventsStored)) + len(self.ids(EventsDuplicate)) + unread

    async def until(self, holds: Callable[["Heard"], bool], seconds: float = 20) -> None:
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(lambda: holds(self)), seconds)


class RunningListener:
    def __init__(self, settings: ListenerSettings) -> None:
        self.settings = settings
        self.heard = Heard()
        self.daemon = ListenerDaemon(settings, subscriber=self.heard)
        self.task = asyncio.create_task(self.daemon.run(), name=f"listener {settings.instance_id}")

    @property
    def health(self) -> dict[str, Any]:
        """The whole of ``/health``."""
        return self.daemon.health().whole()

    async def stop(self) -> None:
        self.daemon.stop()
        await asyncio.wait_for(self.task, 30)

    async def crash(self) -> None:
        """As after kill -9: nothing is released or announced."""
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


QUICK = {
    "port": "0", "handle_delay": "0.05", "insert_delay": "0.05", "startup_delay": "0.2", "reconnect_first": "0.05",
    "lease": "3", "log_level": "error",
}  # fmt: skip


@contextlib.asynccontextmanager
async def running_listener(
    *, ws_url: str, redis_url: str, database_url: str, directory: Path, **settings: str
) -> AsyncIterator[RunningListener]:
    name = settings.setdefault("instance_id", "a")
    given = QUICK | {
        "ws_url": ws_url, "redis_url": redis_url, "database_url": database_url,
        "dead_letter_file": str(directory / f"{name}.jsonl"), **settings,
    }  # fmt: skip
    running = RunningListener(ListenerSettings.load(given))
    try:
        yield running
    finally:
        if not running.task.done():
            await running.stop()
        elif not running.task.cancelled():
            running.task.result()


async def rows_of(database_url: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [dict(row) for row in await connection.fetch("select * from unlost.events order by event_id")]
    finally:
        await connection.close()


async def until_among(listeners: Sequence[RunningListener], holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds. It is checked after each fact of any of these listeners."""
    waiting = [asyncio.create_task(one.heard.until(lambda _: holds(), seconds)) for one in listeners]
    try:
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waiting:
            task.cancel()
