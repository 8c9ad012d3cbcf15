"""Events that are taken from a stream before they are sent, while those before them are under way. Bounded."""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any

from unlost.producer.client.conversation import BYTES, LINES, Outgoing

Events = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
IN_A_TURN = 256
"""So many events are taken at once from an iterable that never waits. Then other tasks get a turn."""


class ReadAhead:
    """Takes events until ``LINES`` or ``BYTES`` wait, and goes on when some were given away."""

    def __init__(self, events: Events, write: Callable[[Mapping[str, Any]], Outgoing]) -> None:
        self._events = events
        self._write = write
        self._waiting: list[Outgoing] = []
        self._bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._ended = False
        self.failed: Exception | None = None
        """The error raised by taking or writing an event, if any."""

    async def fill(self) -> None:
        """Take all events, one after another. Raises what taking or writing one raises."""
        try:
            if isinstance(self._events, AsyncIterable):
                async for event in self._events:
                    await self._add(self._write(event))
            else:
                for number, event in enumerate(self._events, 1):
                    await self._add(self._write(event))
                    if number % IN_A_TURN == 0:
                        await asyncio.sleep(0)
        except Exception as error:
            self.failed = error
            raise
        finally:
            self._ended = True
            self._changed.set()

    async def _add(self, event: Outgoing) -> None:
        # First kept, then waited: an event that was taken is among those that wait, whenever this is cancelled.
        self._waiting.append(event)
        self._bytes += len(event.line)
        self._changed.set()
        while len(self._waiting) >= LINES or self._bytes >= BYTES:
            self._room.clear()
            await self._room.wait()

    async def part(self) -> list[Outgoing]:
        """All events that wait now, as soon as there is one. Empty: there are no more."""
        while not self._waiting and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        return self.taken()

    def taken(self) -> list[Outgoing]:
        """All events that wait now."""
        part, self._waiting, self._bytes = self._waiting, [], 0
        self._room.set()
        return part
