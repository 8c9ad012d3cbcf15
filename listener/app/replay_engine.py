"""A replay's engine: letters take the same path of claiming, handling and storing as events of the source.

Nothing is buried a second time here. An event that fails again ends with its failures, for the record of its letter. An
outage counts against no event. Somebody watches a replay, so it waits ``PATIENCE_SECONDS`` for an outage and then ends.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, Outcome, Stored
from unlost.listener.app.engine import Engine
from unlost.listener.app.settings import ConnectionSettings
from unlost.listener.app.wiring import connect_servers
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import Event
from unlost.listener.core.facts import Fact
from unlost.listener.core.in_flight import Buried, Duplicate, InFlight
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.ports.dead_letters import Burial, Gone, Loss, StoppedLetter

OPEN_SECONDS = 15.0
PATIENCE_SECONDS = 30.0
"""How long nothing may be claimed or stored before the replay gives up all events in progress."""
LOOK_SECONDS = 0.25


class NoDeadLetterSink:
    """A sink that writes nothing: the letters exist already, and burying is only a result here."""

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        """Write nothing. The replay learns it from ``FailedAgain``."""
        del flights
        return ()

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """Yield nothing: a replay has no letters of its own."""
        return
        yield

    async def stopped(self) -> AsyncGenerator[Sequence[StoppedLetter], None]:
        """Yield nothing: the replay itself takes these letters."""
        return
        yield

    async def checked(self) -> str:
        """Return nothing: a replay checks no letters."""
        return ""

    async def reopened(self, loss: Loss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
        """Yield nothing: a replay has no letters of its own."""
        del loss, gone
        return
        yield

    async def resolve(self, letter_ids: Sequence[str], why: str) -> Sequence[str]:
        """Do nothing: the replay records the outcomes of its letters."""
        del letter_ids, why
        return ()


class EngineRerun:
    """Runs single events through an engine of its own, which is in the group's membership like a listener."""

    def __init__(self, settings: ConnectionSettings, *, patience: float = PATIENCE_SECONDS) -> None:
        self._engine = Engine(
            settings, NoDeadLetterSink(), self._on_fact, connect=partial(connect_servers, revives=True)
        )
        self._logs = ListenerLogs(debug=False)
        self._patience = patience
        self._running: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[str] | None = None

    def _on_fact(self, fact: Fact) -> None:
        self._logs(fact)

    async def __aenter__(self) -> Self:
        """Connect and join the membership."""
        try:
            await self._engine.prepare()
        except BaseException:
            await self._engine.close()
            raise
        self._running = asyncio.create_task(self._engine.run(), name="replay engine")
        async with asyncio.timeout(OPEN_SECONDS):
            await self._engine.manager.wait_open()
        self._watching = asyncio.create_task(self._until_given_up(), name="replay patience")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what is held and leave."""
        await self._engine.pipeline.drain(0.0)
        for task in filter(None, (self._watching, self._running)):
            task.cancel()
            await asyncio.wait({task})
        await self._engine.leave()
        await self._engine.close()

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        """Return the handlers that the group's listeners declared."""
        return [(one.instance_id, one.handler) for one in self._engine.manager.agreement.members if one.agreed]

    async def run(self, event: Event) -> Outcome:
        """Claim, handle and store one event; return its outcome."""
        assert self._watching is not None, "entered before"
        assert self._running is not None
        ended: asyncio.Future[InFlight] = asyncio.get_running_loop().create_future()
        self._engine.pipeline.intake.offer(event, lambda one: None if ended.done() else ended.set_result(one))
        either: tuple[asyncio.Future[Any], ...] = ended, self._watching, self._running
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            if self._running.done():
                self._running.result()  # an error that ended the engine ends the replay
            raise Transient(self._watching.result())
        return _outcome(ended.result())

    async def _until_given_up(self) -> str:
        """Return why no event can be run, once that has lasted too long."""
        loop = asyncio.get_running_loop()
        last_able = loop.time()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not (why := self._why_unable()):
                last_able = loop.time()
            elif loop.time() >= last_able + self._patience:
                return f"{why}; that has lasted {self._patience:g} s; all other letters wait: run the replay again"

    def _why_unable(self) -> str:
        return self._engine.pipeline.store_watch.error or self._engine.manager.why_closed()


def _outcome(flight: InFlight) -> Outcome:
    match flight.end:
        case Duplicate():
            return AlreadyStored()
        case Buried(reason):
            return FailedAgain(tuple(flight.attempts), reason)
        case _:
            return Stored()


def open_rerun(settings: ConnectionSettings) -> EngineRerun:
    """Open the rerun of a real replay."""
    return EngineRerun(settings)
