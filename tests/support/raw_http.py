"""Requests as they stand on the wire, byte by byte. Clients of libraries would correct them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

WITHIN = 10


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A plain connection to the server of this address."""
    host, _, port = url.partition("//")[2].strip("/").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_to(url: str, sent: bytes, *, patience: float = WITHIN) -> bytes:
    """What a server sends until it ends the connection. After ``patience`` this end closes its half first."""
    async with asyncio.timeout(WITHIN + patience), connected(url) as (reader, writer):
        answer = b""
        try:
            writer.write(sent)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    answer = await reader.readuntil(b"\r\n\r\n")
                    answer += await reader.read()
                    return answer
            writer.write_eof()
            return answer + await reader.read()
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return answer


def statuses(answer: bytes) -> list[int]:
    """The status of each answer on a connection."""
    lines = answer.split(b"\r\n")
    return [int(one.split()[1]) for one in lines if one.startswith(b"HTTP/1.1 ")]
