"""A WebSocket echo server in a process of its own, since a hop leads from one process to another.

It prints its port, and ends when its standard input ends.
"""

import asyncio
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, serve


async def _echo(connection: ServerConnection) -> None:
    async for frame in connection:
        await connection.send(frame)


async def _run() -> None:
    async with serve(_echo, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_run())
