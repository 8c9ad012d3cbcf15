"""Connections to Redis, kept between calls: the library's way through its pool costs three times what the call does.

A connection is taken from the library's pool when none is free, and goes back, closed, when anything fails on it; those
that were free go with it, for whatever ended one has most likely ended all. So no call meets a dead one a second time.
"""

import asyncio
from typing import cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError


class Wires:
    """Asks one Redis, on as many connections as there are calls under way, and no more than the pool may have."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._free: list[AbstractConnection] = []
        self._places = asyncio.Semaphore(self._pool.max_connections)

    async def ask(self, *command: bytes | str | int) -> bytes:
        """Send a command and return its answer, or raise one of the library's errors."""
        async with self._places:
            wire = self._free.pop() if self._free else await self._taken()
            try:
                await wire.send_command(*command)
                answer = await wire.read_response()
            except ResponseError:
                self._free.append(wire)
                raise
            except BaseException:
                await self._let_go(wire)
                raise
            self._free.append(wire)
            return cast("bytes", answer)

    async def _taken(self) -> AbstractConnection:
        return cast("AbstractConnection", await self._pool.get_connection())  # type: ignore[no-untyped-call]

    async def _let_go(self, wire: AbstractConnection) -> None:
        ended, self._free = [wire, *self._free], []
        for one in ended:
            await one.disconnect(nowait=True)
            await self._pool.release(one)
