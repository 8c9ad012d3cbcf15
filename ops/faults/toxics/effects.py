"""The effect of each kind of toxic on one direction of one connection.

An effect gets each chunk with its time of arrival. It decides what to forward, and when. It ends when its toxic is
removed or changed; all its waits then return at once.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from unlost.ops.faults.toxics.toxic import (
    MILLISECOND,
    Bandwidth,
    Latency,
    LimitData,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
    Toxic,
)

Forward = Callable[[bytes, float], Awaitable[None]]
MICROSECOND = 1e-6
KILOBYTE = 1000
BANDWIDTH_PORTION_SECONDS = 0.1


class Cut(Exception):
    """A toxic ends this direction: its destination is closed."""


class ToxicEffect:
    """Base class: forwards everything unchanged."""

    closes_when_removed = False
    """Whether bytes may have been dropped. Then no later bytes may follow, so the connection must end."""

    def __init__(self, toxic: Toxic) -> None:
        self.toxic = toxic
        self._over = asyncio.Event()

    def end(self) -> None:
        """The toxic was removed or changed."""
        self._over.set()

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:
        """Forward one chunk that arrived ``at`` this time, or parts of it, or nothing."""
        await forward(data, at)

    async def before_close(self) -> None:
        """Return when the sender's end of stream may be passed on."""

    async def strike(self) -> "bool | None":
        """Return when the connection must end: true resets it, false closes it, ``None`` leaves it alone."""
        return None

    async def _wait(self, seconds: float | None) -> bool:
        """Wait, but no longer than until the toxic is removed. Return whether the whole time has passed."""
        if seconds is not None and seconds <= 0:
            return not self._over.is_set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
                return False
        return True


class _Latency(ToxicEffect):
    def __init__(self, toxic: Toxic, attributes: Latency) -> None:
        super().__init__(toxic)
        self._attributes = attributes

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:
        jitter = self._attributes.jitter * random.uniform(-1, 1)  # noqa: S311  no secret
        due = at + (self._attributes.latency + jitter) * MILLISECOND
        await self._wait(due - asyncio.get_running_loop().time())
        await forward(data, max(at, due))


class _Bandwidth(ToxicEffect):
    def __init__(self, toxic: Toxic, attributes: Bandwidth) -> None:
        super().__init__(toxic)
        self._rate = attributes.rate * KILOBYTE

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:
        portion = max(1, int(self._rate * BANDWIDTH_PORTION_SECONDS)) if self._rate > 0 else len(data)
        for start in range(0, len(data), portion):
            piece = data[start : start + portion]
            if self._rate > 0:
                await self._wait(len(piece) / self._rate)
            await forward(piece, at)


class _SlowClose(ToxicEffect):
    def __init__(self, toxic: Toxic, attributes: SlowClose) -> None:
        super().__init__(toxic)
        self._delay = attributes.delay * MILLISECOND

    async def before_close(self) -> None:
        await self._wait(self._delay)


class _Silence(ToxicEffect):
    """``timeout``: drops all data, but passes on the sender's end of stream; closes the connection after that time."""

    closes_when_removed = True

    def __init__(self, toxic: Toxic, attributes: Timeout) -> None:
        super().__init__(toxic)
        self._seconds = attributes.timeout * MILLISECOND if attributes.timeout > 0 else None

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:
        """Drop the data."""

    async def strike(self) -> bool | None:
        return False if await self._wait(self._seconds) else None


class _Reset(ToxicEffect):
    """``reset_peer``: resets the connection some time after the first bytes, or after the sender's end of stream."""

    def __init__(self, toxic: Toxic, attributes: ResetPeer) -> None:
        super().__init__(toxic)
        self._seconds = attributes.timeout * MILLISECOND
        self._provoked = asyncio.Event()

    def end(self) -> None:
        super().end()
        self._provoked.set()

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:  # noqa: ARG002  all data is dropped
        """Drop the data."""
        self.closes_when_removed = True
        self._provoked.set()

    async def before_close(self) -> None:
        self._provoked.set()
        await self._wait(None)

    async def strike(self) -> bool | None:
        await self._provoked.wait()
        return True if await self._wait(self._seconds) else None


class _Slicer(ToxicEffect):
    def __init__(self, toxic: Toxic, attributes: Slicer) -> None:
        super().__init__(toxic)
        self._attributes = attributes

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:
        start = 0
        while start < len(data):
            end = start + self._size() if self._attributes.average_size > 0 else len(data)
            await forward(data[start:end], at)
            start = end
            await self._wait(self._attributes.delay * MICROSECOND)

    def _size(self) -> int:
        variation = min(max(self._attributes.size_variation, 0), self._attributes.average_size - 1)
        return self._attributes.average_size + random.randint(-variation, variation)  # noqa: S311  no secret


class _LimitData(ToxicEffect):
    def __init__(self, toxic: Toxic, attributes: LimitData) -> None:
        super().__init__(toxic)
        self._left = max(0, attributes.bytes)

    async def pass_on(self, data: bytes, at: float, forward: Forward) -> None:
        if self._over.is_set():
            await forward(data, at)
            return
        passing, self._left = data[: self._left], self._left - len(data)
        if passing:
            await forward(passing, at)
        if self._left <= 0:
            raise Cut


def effect_of(toxic: Toxic) -> ToxicEffect:
    """Make the effect of a toxic. Call it inside the running loop."""
    match toxic.attributes:
        case Latency() as attributes:
            return _Latency(toxic, attributes)
        case Bandwidth() as attributes:
            return _Bandwidth(toxic, attributes)
        case SlowClose() as attributes:
            return _SlowClose(toxic, attributes)
        case Timeout() as attributes:
            return _Silence(toxic, attributes)
        case ResetPeer() as attributes:
            return _Reset(toxic, attributes)
        case Slicer() as attributes:
            return _Slicer(toxic, attributes)
        case LimitData() as attributes:
            return _LimitData(toxic, attributes)
    raise AssertionError(f"no effect for the toxic {toxic.type!r}")
