"""A replay's engine: letters take the same path of claiming, handling and storing as events of the source.

Nothing is buried a second time here. An event that fails again ends with its failures, for the record of its letter. An
outage counts against no event. A person watches a replay, so it ends after an outage of ``PATIENCE_SECONDS``.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import NoReturn, Self

from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, NowStored, Outcome, StillBlocked
from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.engine import Engine
from unlost.listener.app.settings import handler_of
from unlost.listener.app.wiring import connect_servers
from unlost.listener.core.errors import Failure, Permanent, Transient, failure_of
from unlost.listener.core.event import Edited, Event
from unlost.listener.core.facts import Fact
from unlost.listener.core.in_flight import Buried, Duplicate, InFlight
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.pipeline.effect_letters import delivery_failure
from unlost.listener.ports.dead_letters import Burial, Gone, StoreLoss

OPEN_SECONDS = 15.0
PATIENCE_SECONDS = 30.0
"""How long nothing may be claimed or stored before the replay gives up all events in progress."""
LOOK_SECONDS = 0.25
LEAVE_SECONDS = 1.0
"""How long to wait for PostgreSQL once more after giving up."""


class NoDeadLetterSink:
    """A sink that writes nothing: the letters exist already, and burying is only a result here."""

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        """Write nothing. The replay gets ``FailedAgain``."""
        del flights
        return ()

    async def waiting(self) -> AsyncIterator[Sequence[Burial]]:
        """Yield nothing: a replay has no letters of its own."""
        return
        yield

    async def checked(self) -> str:
        """Return nothing: a replay checks no letters."""
        return ""

    async def reopened(self, loss: StoreLoss, gone: Gone) -> AsyncGenerator[Sequence[Burial], None]:
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
            settings, NoDeadLetterSink(), self._on_fact, read_again=_keep_reading,
            connect=partial(connect_servers, revives=True),
        )  # fmt: skip
        self._logs = ListenerLogs(debug=False, redactor=settings.redactor())
        self._patience = patience
        self._policy = settings.policy()
        self._effect_policy = settings.effect_policy()
        self._effects: set[asyncio.Task[Outcome | None]] = set()
        self._refused: asyncio.Queue[str] = asyncio.Queue()
        """Why our settings do not allow an effect."""
        self._running: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[str] | None = None
        """Returns why no event can be run any more."""

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
        self._watching = asyncio.create_task(self._why_given_up(), name="replay patience")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what is held and leave. Peers need not be left in order: our row in the membership expires."""
        given_up = self._watching is not None and self._watching.done()
        await self._engine.pipeline.drain(0.0)
        for task in filter(None, (self._watching, self._running, *self._effects)):
            task.cancel()
            await asyncio.wait({task})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS if given_up else None):
                await self._engine.leave()
        await self._engine.close()

    def live_handlers(self) -> Sequence[tuple[str, str | None]]:
        """Return the handlers that the group's listeners declared."""
        return [
            (one.instance_id, handler_of(one.handler)) for one in self._engine.manager.agreement.members if one.agreed
        ]

    @property
    def at_once(self) -> int:
        """As many events as a listener would hold claims for, and as many that wait behind them, if they pass quickly.

        A slow handler has few, since an interrupt waits for them.
        """
        work = self._engine.pipeline.work
        held = self._policy.claims_at_once(handled=work.handled, seconds=work.seconds)
        few = self._policy.claims_at_once(handled=work.handled)
        return held if held == few and work.handled else 2 * held

    def start(
        self,
        event: Event,
        ended: Callable[[Outcome], None],
        edited: Edited | None = None,
        *,
        order_key: str | None = None,
    ) -> None:
        """Claim, handle and store one event; ``ended`` gets its outcome."""
        intake = self._engine.pipeline.intake
        intake.offer(event, lambda flight: ended(_outcome(flight)), edited, order_key=order_key)

    def start_effect(self, event_id: str, number: int, ended: Callable[[Outcome], None]) -> None:
        """Deliver the effect of a letter, once; ``ended`` gets its outcome, if our settings allow it."""
        task = asyncio.create_task(self._deliver(event_id, number), name=f"replay effect {number} of {event_id}")
        self._effects.add(task)

        def note(task: asyncio.Task[Outcome | None]) -> None:
            self._effects.discard(task)
            if not task.cancelled() and (outcome := task.result()) is not None:
                ended(outcome)

        task.add_done_callback(note)

    async def _deliver(self, event_id: str, number: int) -> Outcome | None:
        try:
            return await self._outcome_of(event_id, number)
        except (Transient, Permanent) as error:
            return _failed(failure_of(error, stage="effect", at=time.time()))

    async def _outcome_of(self, event_id: str, number: int) -> Outcome | None:
        rows = self._engine.effects
        effect = await rows.revive(event_id, number, lease=self._effect_policy.lease)
        if effect == "delivered":
            return AlreadyStored()
        if isinstance(effect, str):
            raise Transient("a listener or another replay delivers it now" if effect == "taken" else "its row is gone")
        answer = await self._engine.channel.send(effect)
        if answer.what == "delivered":
            await rows.delivered(effect)
            return NowStored()
        await rows.failed(effect, answer.why, wait=answer.after, counts=not answer.ours)
        if answer.ours:  # no fault of the letter: it stays as it is, and the replay ends
            self._refused.put_nowait(f"{answer.why}, in the settings of this replay")
            return None
        return _failed(delivery_failure(effect, answer, time.time()))

    async def unable(self) -> NoReturn:
        """Raise once no event could be claimed or stored for too long, or what ended the engine."""
        assert self._watching is not None, "entered before"
        assert self._running is not None
        await asyncio.wait((self._watching, self._running), return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            self._running.result()
        raise Transient(self._watching.result())

    async def _why_given_up(self) -> str:
        """Return why no event can be run, why the handler can run no more, or why an effect may not be sent."""
        handler = self._engine.handler
        unable = [asyncio.create_task(self._until_given_up()), asyncio.create_task(self._refused.get())]
        if handler is not None:
            unable.append(asyncio.create_task(handler.until_ended()))
        try:
            done, _ = await asyncio.wait(unable, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in unable:
                task.cancel()
        return f"{done.pop().result()}; all other letters wait: run the replay again"

    async def _until_given_up(self) -> str:
        """Return why no event can be run, once that has lasted too long."""
        loop = asyncio.get_running_loop()
        last_able = loop.time()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not (why := self._why_unable()):
                last_able = loop.time()
            elif loop.time() >= last_able + self._patience:
                return f"{why}; that has lasted {self._patience:g} s"

    def _why_unable(self) -> str:
        return self._engine.pipeline.store_watch.error or self._engine.manager.why_closed()


def _outcome(flight: InFlight) -> Outcome:
    match flight.end:
        case Duplicate():
            return AlreadyStored()
        case Buried("blocked"):
            return StillBlocked()
        case Buried(reason):
            return FailedAgain(tuple(flight.attempts), reason)
        case _:
            return NowStored()


def _failed(failure: Failure) -> FailedAgain:
    return FailedAgain((failure,), "effect")


def open_rerun(settings: ConnectionSettings) -> EngineRerun:
    """Open the rerun of a real replay."""
    return EngineRerun(settings)


def _keep_reading() -> None:
    """A replay reads letters, and these are where they were."""
