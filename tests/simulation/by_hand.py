"""A wire to a simulated server under asyncio's real loop. The contract suites cut it and swallow replies by hand."""

import asyncio
from collections.abc import Callable
from typing import Self, TypeVar

from tests.simulation.wire import Blocked, Lost

T = TypeVar("T")


class HandLink:
    """Has the interface of ``tests.support.cutting_proxy.CuttingProxy``. Its ``url`` is the wire itself."""

    def __init__(self, *, refused: bool = False) -> None:
        self.cuts = 0
        self._refused = refused
        self._cut_when: bytes | None = None
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @property
    def url(self) -> Self:
        return self

    def cut_reply(self, request: bytes) -> None:
        """Lose the reply to the next request that contains these bytes, after the request was applied."""
        self._cut_when = request

    def swallow(self) -> None:
        self._open.clear()

    def pass_again(self) -> None:
        self._open.set()

    def changed(self) -> None:
        """Let blocked requests try again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def hang_up(self, callback: Callable[[], None]) -> None:
        callback()

    async def ask(self, what: str, apply: Callable[[], T | Blocked], *, timeout: float) -> T:
        if self._refused:
            raise Lost("connection refused")
        try:
            async with asyncio.timeout(timeout):
                await self._open.wait()
                await asyncio.sleep(0)
                while isinstance(result := apply(), Blocked):
                    await self._blocked()
                await asyncio.sleep(0)
        except TimeoutError:
            raise Lost("no answer in time") from None
        if self._cut_when is not None and self._cut_when in what.encode():
            self._cut_when = None
            self.cuts += 1
            raise Lost("connection reset")
        return result

    async def _blocked(self) -> None:
        try:
            async with asyncio.timeout(0.05):
                await self._changed.wait()
        except TimeoutError:
            return
