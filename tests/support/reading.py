"""A reader with a source, and stand-ins for the parts of a listener that it uses."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

from unlost.listener.core.backoff import Backoff
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Fact
from unlost.listener.core.oversized import Oversized
from unlost.listener.source.connection import Open, SourceOptions
from unlost.listener.source.reader import Reader


class Intake:
    """Has room for everything, and keeps it."""

    full = False
    room = (1_000, 1_000_000)

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.oversized: list[Oversized] = []
        self.count = 0
        self.cursor: str | None = None

    def receive(self, frames: Sequence[bytes]) -> str | None:
        self.frames += frames
        return self.cursor

    def receive_oversized(self, whole: Oversized) -> None:
        self.oversized.append(whole)


class Cursors:
    """The cursor of one group."""

    def __init__(self, stored: str | None = None) -> None:
        self.stored = stored
        self.away = 0
        """How many reads fail."""
        self.saved_meanwhile: str | None = None
        """What a peer saves just before the next reset."""

    async def database(self) -> str:
        return "0123abcd"

    async def read(self, source: str, group: str) -> str | None:
        if self.away:
            self.away -= 1
            raise Transient("PostgreSQL is away")
        return self.stored

    async def reset(self, source: str, group: str, old: str, new: str) -> str | None:
        self.stored, self.saved_meanwhile = self.saved_meanwhile or self.stored, None
        self.stored = new if self.stored == old else self.stored
        return self.stored

    async def start(self, source: str, group: str, cursor: str) -> str:
        self.stored = self.stored or cursor
        return self.stored

    async def advance(self, source: str, group: str, cursor: str, store: object = None) -> None:
        self.stored = cursor


class Reading:
    """A running reader, and the facts that it stated."""

    def __init__(
        self, url: str, *, stored: str | None, open_connection: Open | None, clock: Any, **options: Any
    ) -> None:
        self.facts: list[Fact] = []
        self.intake = Intake()
        self.cursors = Cursors(stored)
        self._stated = asyncio.Condition()
        quick = {"backoff": Backoff(0.001, 0.001), "open_timeout": 2.0} | options
        self.reader = Reader(
            SourceOptions(url, "source", "group", **quick), intake=cast("Any", self.intake),
            cursors=cast("Any", self.cursors), must_pause=lambda: "", database_away=lambda: "",
            overflow=lambda _: None, facts=self._hear, open_connection=open_connection, dice=lambda: 0.5, **clock,
        )  # fmt: skip
        self.task = asyncio.create_task(self.reader.run())

    def _hear(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.wake = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._stated:
            self._stated.notify_all()

    def of(self, kind: type[Fact]) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    async def until(self, holds: Callable[["Reading"], bool], seconds: float = 10) -> None:
        """Return once its facts show this. Fails if the reader ends before."""
        async with self._stated:
            await asyncio.wait_for(self._stated.wait_for(lambda: self.task.done() or holds(self)), seconds)
        assert not self.task.done(), f"the reader ended: {self.task}"


@contextlib.asynccontextmanager
async def reading(
    url: str, *, stored: str | None = None, open_connection: Open | None = None,
    clock: Callable[[], float] | None = None, **options: Any,
) -> AsyncIterator[Reading]:  # fmt: skip
    one = Reading(
        url, stored=stored, open_connection=open_connection, clock={"clock": clock} if clock else {}, **options
    )
    try:
        yield one
    finally:
        one.task.cancel()
        await asyncio.wait([one.task])
