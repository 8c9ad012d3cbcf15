"""One direction of one connection: data passes from a reader to a writer through the effects of its toxics.

Reading and delivering are separate tasks, so that latency does not reduce throughput. Toxics may be added and removed
at any time. A chunk that is waiting in a removed toxic continues without further delay.
"""

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable, Sequence

from unlost.ops.faults.toxics.effects import Cut, Forward, ToxicEffect, effect_of
from unlost.ops.faults.toxics.toxic import Toxic

CHUNK = 64 * 1024
HELD_BYTES = 16 * 1024 * 1024


class ToxicLink:
    """Carries data from a reader to a writer. It calls ``reset`` when a toxic resets the whole connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        reset: Callable[[], None],
        rng: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._reset = reset
        self._rng = rng
        self._arrived: deque[tuple[bytes, float]] = deque()
        self._bytes = 0
        self._at_end = False
        self._moved = asyncio.Event()
        self._ended = asyncio.Event()
        self._toxics: list[tuple[Toxic, ToxicEffect | None]] = []
        self._strikes: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Carry data until the end, then close the writer."""
        try:
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(self._read()), tasks.create_task(self._deliver())]
                await self._ended.wait()
                for task in working:
                    task.cancel()
        finally:
            self.set_toxics(())
            for strike in self._strikes:
                strike.cancel()
            self._writer.close()

    def end(self) -> None:
        """Stop carrying data."""
        self._ended.set()

    def set_toxics(self, toxics: Sequence[Toxic]) -> None:
        """Use these toxics, in this order. One that stays keeps its state; a new one takes effect by its toxicity."""
        before = dict(self._toxics)
        staying = {toxic for toxic in toxics if toxic in before}
        for toxic, effect in self._toxics:
            if effect is not None and toxic not in staying:
                effect.end()
                if effect.closes_when_removed:
                    self._ended.set()
        self._toxics = [(toxic, before[toxic] if toxic in staying else self._started(toxic)) for toxic in toxics]

    def _started(self, toxic: Toxic) -> ToxicEffect | None:
        if self._rng() >= toxic.toxicity:
            return None
        effect = effect_of(toxic)
        strike = asyncio.create_task(self._strike(effect))
        self._strikes.add(strike)
        strike.add_done_callback(self._strikes.discard)
        return effect

    async def _strike(self, effect: ToxicEffect) -> None:
        resets = await effect.strike()
        if resets:
            self._reset()
        elif resets is not None:
            self._ended.set()

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await self._reader.read(CHUNK):
                self._arrived.append((data, loop.time()))
                self._bytes += len(data)
                self._moved.set()
                while self._bytes > HELD_BYTES:
                    self._moved.clear()
                    await self._moved.wait()
        self._at_end = True
        self._moved.set()

    async def _deliver(self) -> None:
        try:
            while True:
                while not self._arrived and not self._at_end:
                    self._moved.clear()
                    await self._moved.wait()
                if not self._arrived:
                    break
                data, at = self._arrived.popleft()
                self._bytes -= len(data)
                self._moved.set()
                await self._way()(data, at)
            for effect in self._effects():
                await effect.before_close()
        except (Cut, OSError):
            pass
        finally:
            self._ended.set()

    def _effects(self) -> list[ToxicEffect]:
        return [effect for _, effect in self._toxics if effect is not None]

    def _way(self) -> Forward:
        """Compose all present effects and the final write."""
        way: Forward = self._write
        for effect in reversed(self._effects()):
            way = functools.partial(effect.pass_on, forward=way)
        return way

    async def _write(self, data: bytes, at: float) -> None:  # noqa: ARG002  only effects look at the time
        if self._ended.is_set():
            raise Cut  # earlier bytes may have been dropped, and a connection must never lose bytes in its middle
        self._writer.write(data)
        await self._writer.drain()
