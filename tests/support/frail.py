"""Lets tests in an event loop harm a server. Every call runs in one thread that outlives the tests.

A child process is tied to the thread that started it, and the threads of a test's loop end with the test.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.valkey import ValkeyServer

ServerT = TypeVar("ServerT", PostgresServer, ValkeyServer)


class Frail(Generic[ServerT]):
    """``server`` with its harmful methods as awaitables."""

    def __init__(self, server: ServerT, thread: ThreadPoolExecutor) -> None:
        self.server: ServerT = server
        self._thread = thread

    async def stop(self) -> None:
        await self._do(self.server.stop)

    async def start(self) -> None:
        await self._do(self.server.start)

    async def kill(self) -> None:
        await self._do(self.server.kill)

    async def freeze(self) -> None:
        await self._do(self.server.freeze)

    async def thaw(self) -> None:
        await self._do(self.server.thaw)

    def heal(self) -> None:
        """Make it run again, whatever was done to it."""
        self.server.thaw()
        if not self.server.child.is_running:
            self._thread.submit(self.server.start).result()

    async def _do(self, work: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)
