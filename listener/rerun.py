"""A replay's engine: letters go through the same claim, handle and store path as events of the source.

Nothing is buried a second time here: an event that fails again ends with what failed, for its letter's record.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from dlq.outcome import AlreadyStored, FailedAgain, Outcome, Stored
from listener.engine import Engine
from listener.event import Event
from listener.facts import Fact
from listener.observe.logs import ListenerLogs
from listener.pipeline.healer import Kept
from listener.pipeline.passage import Buried, Duplicate, Passage
from listener.servers import connect_servers
from listener.settings import ConnectionSettings
from listener.store.burials import Burial

OPEN_SECONDS = 15.0


class NoGraveyard:
    """Letters exist already: burying is only a verdict here."""

    async def bury(self, passages: Sequence[Passage]) -> Sequence[Burial]:
        """Nothing is written; ``FailedAgain`` tells the replay."""
        del passages
        return ()

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """None are its own."""
        return
        yield

    async def stopped(self) -> AsyncGenerator[Sequence[Kept], None]:
        """The replay itself takes them."""
        return
        yield

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """The replay notes what became of its letters."""
        del letter_ids, why
        return ()


class EngineRerun:
    """Runs single events through an engine of its own, which is on the group's roll like any listener."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._engine = Engine(settings, NoGraveyard(), self._hear, connect=partial(connect_servers, digs_out=True))
        self._logs = ListenerLogs(debug=False)
        self._running: asyncio.Task[None] | None = None

    def _hear(self, fact: Fact) -> None:
        self._logs(fact)

    async def __aenter__(self) -> Self:
        """Connect and get on the roll."""
        await self._engine.prepare()
        self._running = asyncio.create_task(self._engine.run(), name="replay engine")
        async with asyncio.timeout(OPEN_SECONDS):
            await self._engine.desk.wait_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give back what is held and leave."""
        await self._engine.pipeline.drain(0.0)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
        await self._engine.leave()
        await self._engine.close()

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        """What the group's listeners declared."""
        return [(one.instance_id, one.handler) for one in self._engine.desk.members if one.agreed]

    async def run(self, event: Event) -> Outcome:
        """Claim, handle and store one event; its outcome."""
        intake = self._engine.pipeline.intake
        ended: asyncio.Future[Passage] = asyncio.get_running_loop().create_future()
        intake.offer(event, lambda one: None if ended.done() else ended.set_result(one))
        done = await ended
        match done.end:
            case Duplicate():
                return AlreadyStored()
            case Buried(reason):
                return FailedAgain(tuple(done.attempts), reason)
            case _:
                return Stored()


def open_rerun(settings: ConnectionSettings) -> EngineRerun:
    """The rerun of a real replay."""
    return EngineRerun(settings)
