"""Listening: an engine, the reader that feeds it, and the committer of its cursor. Prepares, runs and drains them.

The daemon adds an endpoint, logs and metrics; the simulation adds simulated servers.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Iterable
from typing import Literal

from unlost.listener.app.engine import CLOCKS, Engine, random_name
from unlost.listener.app.reading import SourceReading
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.sources import BuildSources, builders, check_names, check_order, check_shard
from unlost.listener.app.wiring import Connect, connect_servers
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Facts
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.pipeline.effect_delivery import EffectDelivery
from unlost.listener.pipeline.effect_letters import EffectLetters
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.orderly_stop import Drained
from unlost.listener.ports.dead_letters import DeadLetters
from unlost.listener.routing.finding import find_handler
from unlost.listener.source.gaps import GapRecorder

ACKNOWLEDGE_SECONDS = 2.0
"""How long a stop waits until a source has got the acknowledgements of what is settled."""
Phase = Literal["starting", "running", "draining", "stopped"]


class Listening:
    """A listener. ``run`` returns after a requested stop, once it has drained. The caller closes the engine."""

    def __init__(
        self,
        settings: ListenerSettings,
        sink: DeadLetters,
        facts: Facts,
        *,
        connect: Connect = connect_servers,
        clocks: Clocks = CLOCKS,
        name: Callable[[], str] = random_name,
        sources: BuildSources = builders,
        rng: Callable[[], float] = random.random,
        find: Callable[[str], Handler] = find_handler,
    ) -> None:
        self._drain_seconds = settings.shutdown_timeout
        self._clock = clocks.monotonic
        self._stop = asyncio.Event()
        self.phase: Phase = "starting"
        self.working = asyncio.Event()
        self.engine = Engine(
            settings, sink, facts, read_again=self._read_again, connect=connect, clocks=clocks, name=name, rng=rng,
            find=find,
        )  # fmt: skip
        engine = self.engine
        self.effects = EffectDelivery(
            rows=engine.effects, channel=engine.channel, letters=EffectLetters(sink, engine.store, clocks),
            policy=settings.effect_policy(), clocks=clocks, facts=facts, rng=rng,
        )  # fmt: skip
        engine.recorder.wake = self.effects.again
        self._gaps = GapRecorder(self.engine.gaps, now=clocks.now, facts=facts)
        self.readings = [
            SourceReading(build, settings.reading(), self.engine, gaps=self._gaps, clocks=clocks, rng=rng, facts=facts)
            for build in sources(settings, self.engine.cursors, self._store, self._gaps.declare, engine.manager.at_work)
        ]
        check_names([one.source.name for one in self.readings])
        handler = engine.handler
        read, keys = [one.source for one in self.readings], {} if handler is None else handler.keys
        check_order(settings.order_by, read, keys)
        check_shard(settings.group, settings.order_by, read, keys)

    def _store(self) -> StoreMark | None:
        return self.engine.manager.known_store.mark

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
            gaps = tasks.create_task(self._gaps.run(), name="record gaps")
            effects = tasks.create_task(self.effects.run(), name="effects")
            reading = tasks.create_task(self._read(), name="sources")
            self.phase = "running"
            self.working.set()
            handler_ended = await self._asked_or_unable()
            self.phase = "draining"
            drained = await self._drain(reading)
            for one in self.readings:
                await one.committer.save()
            await self._gaps.finish()
            await self.effects.finish()
            for task in (engine, gaps, effects, *side):
                task.cancel()
        why = self.engine.manager.agreement.why_not()
        await self.engine.leave()
        if handler_ended:
            raise Transient(handler_ended)
        if not self._stop.is_set():
            raise Transient(f"peers took this listener for dead, and {why}")
        return drained

    async def _drain(self, reading: "asyncio.Task[None]") -> Drained:
        """Take nothing more. Release what is in memory, or finish it if the source does not send it again."""
        started = self._clock()
        await asyncio.gather(*(one.take_no_more() for one in self.readings))
        left = max(0.0, self._drain_seconds - (self._clock() - started))
        pipeline = self.engine.pipeline
        for_good = [one.source.name for one in self.readings if one.reader.took_for_good]
        drained = await (pipeline.finish(left, for_good) if for_good else pipeline.drain(left))
        await asyncio.gather(*(one.reader.acknowledge_rest(ACKNOWLEDGE_SECONDS) for one in self.readings))
        reading.cancel()
        await asyncio.wait([reading])
        return drained

    async def _asked_or_unable(self) -> str:
        """Wait for a stop. Return why the handler can no longer run, if that comes first.

        Also returns if this listener was taken for dead and another handler is at work.
        """
        handler = self.engine.handler
        unable = None if handler is None else asyncio.create_task(handler.until_ended())
        waiting = [asyncio.create_task(one.wait()) for one in (self._stop, self.engine.manager.agreement.displaced)]
        try:
            await asyncio.wait([*waiting, *filter(None, [unable])], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waiting, *filter(None, [unable])):
                task.cancel()
        return unable.result() if unable is not None and unable.done() else ""

    async def _read(self) -> None:
        """Read only once no other handler is at work: until then this listener could settle nothing it reads."""
        await self.engine.manager.agreement.wait()
        async with asyncio.TaskGroup() as tasks:
            for one in self.readings:
                tasks.create_task(one.run(), name=one.source.name)

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

    def _read_again(self) -> None:
        """Read again: PostgreSQL may lack settled events. Done in one step, so that no earlier cursor is saved."""
        pipeline = self.engine.pipeline
        pipeline.intake.read_again()
        for one in self.readings:
            one.read_again()
        pipeline.registrar.read_again()
