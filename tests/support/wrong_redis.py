"""A server that speaks enough of the Redis protocol, and answers whatever a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

Answer = Callable[[bytes], bytes]


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[str]:
    """Its address, while it runs. ``answer`` makes the reply from the bytes that came."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while request := await reader.read(1 << 20):
                writer.write(answer(request))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in list(writers):
            writer.transport.abort()
