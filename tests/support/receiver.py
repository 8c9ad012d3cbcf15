"""A receiver of webhooks: a small real HTTP server that answers as the test says."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

OK = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


@dataclass
class Call:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def key(self) -> str:
        return self.headers["idempotency-key"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answers = Callable[[Call, asyncio.StreamWriter], Awaitable[None]]


def status(code: int, *headers: str, body: str = "") -> Answers:
    """Answer with a status."""

    async def answer(_: Call, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} x", f"Content-Length: {len(body)}", *headers]
        writer.write(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())

    return answer


async def accept(_: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


async def close(_: Call, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def hang(_: Call, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def endless_headers(_: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x: " + b"y" * 8_000 + b"\r\n")
            await writer.drain()


async def endless_body(_: Call, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 500 no\r\nContent-Length: 999999999999\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"z" * 8_000)
            await writer.drain()


@dataclass
class Receiver:
    """Keeps calls. ``answers``: one for each call in turn, then ``then`` for all others."""

    answers: list[Answers] = field(default_factory=list)
    then: Answers = accept
    calls: list[Call] = field(default_factory=list)
    port: int = 0
    at_once: int = 0
    most_at_once: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def until(self, count: int, seconds: float = 20) -> list[Call]:
        """Wait for so many calls."""
        async with self._changed, asyncio.timeout(seconds):
            await self._changed.wait_for(lambda: len(self.calls) >= count)
        return self.calls

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            call = Call(request.split()[1], headers, body)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.calls.append(call)
            async with self._changed:
                self._changed.notify_all()
            try:
                await (self.answers.pop(0) if self.answers else self.then)(call, writer)
            finally:
                self.at_once -= 1
        writer.close()


@contextlib.asynccontextmanager
async def receiving(*answers: Answers, then: Answers = accept, tls: ssl.SSLContext | None = None,
                    port: int = 0) -> AsyncIterator[Receiver]:  # fmt: skip
    """Run a receiver."""
    receiver = Receiver(list(answers), then)
    tasks = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await receiver.serve(reader, writer)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
