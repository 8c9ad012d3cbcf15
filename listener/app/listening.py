"""Listening: an engine, the reader that feeds it, and the committer of its cursor. Prepares, runs and drains them.

This is a listener without its surfaces. The daemon adds an endpoint, logs and metrics; the simulation adds a world.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Literal

from unlost.listener.app.engine import CLOCKS, Engine, random_name
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.wiring import Connect, connect_servers
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Facts
from unlost.listener.fast.websocket import open_stream
from unlost.listener.pipeline.pipeline import Drained
from unlost.listener.ports.dead_letters import DeadLetters
from unlost.listener.source.committer import CursorCommitter
from unlost.listener.source.connection import Open
from unlost.listener.source.reader import Reader
from unlost.listener.source.report import CursorReporter
from unlost.listener.source.websocket import open_messages

Phase = Literal["starting", "running", "draining", "stopped"]


class Listening:
    """A listener. ``run`` returns once it was asked to stop and has drained. The caller closes the engine."""

    def __init__(
        self,
        settings: ListenerSettings,
        sink: DeadLetters,
        facts: Facts,
        *,
        connect: Connect = connect_servers,
        clocks: Clocks = CLOCKS,
        name: Callable[[], str] = random_name,
        open_connection: Open | None = None,
        dice: Callable[[], float] = random.random,
    ) -> None:
        source = settings.source()
        self._drain_seconds = settings.shutdown_timeout
        self._clock = clocks.monotonic
        self._stop = asyncio.Event()
        self.phase: Phase = "starting"
        self.engine = Engine(settings, sink, facts, connect=connect, clocks=clocks, name=name, dice=dice)
        pipeline = self.engine.pipeline
        self.reader = Reader(
            source,
            intake=pipeline.intake,
            cursors=self.engine.cursors,
            must_pause=lambda: pipeline.settling.error,
            database_away=self._database_away,
            overflow=self._overflow,
            facts=facts,
            open_connection=open_connection or (open_stream if settings.fast == "on" else open_messages),
            clock=clocks.monotonic,
            dice=dice,
            reporter=CursorReporter(
                self.engine.cursors, source=source.name, group=source.group, saved=lambda: self._committer.stored
            ),
        )
        self._committer = CursorCommitter(
            lambda: pipeline.intake.watermark, self.engine.cursors, store=lambda: self.engine.manager.known_store.mark,
            source=source.name, group=source.group, facts=facts,
        )  # fmt: skip
        self.engine.manager.known_store.on_other = self._read_again

    def stop(self) -> None:
        """Ask it to drain and end."""
        self._stop.set()

    async def run(self, *beside: Callable[[], Coroutine[None, None, None]]) -> Drained | None:
        """Start, work until asked to stop, and drain; return how that ended, or None if it never worked.

        The tasks given as ``beside`` run as long as the work does.
        """
        try:
            if not await self._prepared():
                return None
            return await self._work(beside)
        finally:
            self.phase = "stopped"

    async def _work(self, beside: Iterable[Callable[[], Coroutine[None, None, None]]]) -> Drained:
        async with asyncio.TaskGroup() as tasks:
            side = [tasks.create_task(one()) for one in beside]
            engine = tasks.create_task(self.engine.run(), name="engine")
            committer = tasks.create_task(self._committer.run(), name="cursor")
            reader = tasks.create_task(self._read(), name="source")
            self.phase = "running"
            await self._asked_or_displaced()
            self.phase = "draining"
            drained = await self._drain(reader)
            await self._committer.save()
            for task in (committer, engine, *side):
                task.cancel()
        why = self.engine.manager.agreement.why_not()
        await self.engine.leave()
        if not self._stop.is_set():
            raise Transient(f"this listener was taken for gone, and {why}")
        return drained

    async def _drain(self, reader: "asyncio.Task[None]") -> Drained:
        """Stop reading at once. Release what is in memory, or finish it if nobody sends it again."""
        started = self._clock()
        reader.cancel()
        await asyncio.wait([reader])
        left = max(0.0, self._drain_seconds - (self._clock() - started))
        pipeline = self.engine.pipeline
        return await (pipeline.finish(left) if self.reader.took_for_good else pipeline.drain(left))

    async def _asked_or_displaced(self) -> None:
        """Return once a stop is requested, or this listener was taken for dead and another handler is at work."""
        waiting = [asyncio.create_task(one.wait()) for one in (self._stop, self.engine.manager.agreement.displaced)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    async def _read(self) -> None:
        """Read only once no other handler is at work: until then this listener could settle nothing it reads."""
        await self.engine.manager.agreement.wait()
        await self.reader.run()

    async def _prepared(self) -> bool:
        """Reach the servers, unless a stop is requested first."""
        preparing = asyncio.create_task(self.engine.prepare(), name="prepare")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            await asyncio.wait({preparing, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not preparing.done():
                return False
            await preparing
            return True
        finally:
            for task in (preparing, stopping):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _database_away(self) -> str:
        """Return why events that are read now could not be stored soon, or an empty text."""
        if self.engine.store_breaker.is_open:
            return "PostgreSQL is away"
        return "PostgreSQL takes no rows" if self.engine.pipeline.store_watch.error else ""

    def _read_again(self) -> None:
        """Read again: PostgreSQL may lack settled events. Done in one step, so that no earlier cursor is saved."""
        pipeline = self.engine.pipeline
        pipeline.intake.read_again()
        self.reader.read_again()
        pipeline.registrar.read_again()

    def _overflow(self, frame: bytes) -> None:
        pipeline = self.engine.pipeline
        pipeline.settling.bury(pipeline.intake.overflow(frame), DeadLetterCause("overflow", "receive"))
