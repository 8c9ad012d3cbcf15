"""One connection to a source of server-sent events, used like a WebSocket connection. It cannot send."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import httpx

from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.feed.calls import PLAIN, retry_after, system_trust
from unlost.listener.source.feed.losses import STOPPED_SECONDS, EventsRefused
from unlost.listener.source.feed.sse import EventParser
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.tls import tls_failure

LONGEST_WAIT = 600.0
PROBES = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *[
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ],
]
"""Nothing can be sent to the source, so TCP keepalive detects a dead connection."""


class EventLink:
    """An open stream of events."""

    def __init__(self, answer: httpx.Response, largest: int) -> None:
        self._pieces: AsyncIterator[bytes] = answer.aiter_raw()
        self._answer = answer
        self._parser = EventParser(largest)
        self._ready: list[bytes | Oversized] = []
        self._taking: asyncio.Future[bytes] | None = None
        self._left = False
        self._read = asyncio.Event()
        self.answered_at = float("-inf")
        """When bytes last arrived: a comment is a sign of life, too."""

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return the next messages, at least one; ``SourceEnded`` at the end."""
        del size
        while not self._ready:
            self._ready = self._parser.take(await self._next())
        return self._some(most)

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return messages that were read before the end."""
        del size
        piece, self._taking = self._taking, None
        if piece is not None and piece.done() and not piece.cancelled() and piece.exception() is None:
            self._ready += self._parser.take(piece.result())  # it arrived just when its reader was stopped
        return self._some(most) if self._ready else ()

    async def send(self, message: str) -> None:
        """Nothing can be sent."""
        del message
        raise SourceEnded(Loss("nothing can be sent to a source of server-sent events", wait=STOPPED_SECONDS))

    def abort(self) -> None:
        """End the connection: whoever reads sees its end, now or when it reads next."""
        self._left = True
        if self._taking is not None:
            self._taking.cancel()

    async def answers(self) -> bool:
        """Return once bytes have arrived: nothing can be asked here."""
        self._read.clear()
        await self._read.wait()
        return True

    async def keep_alive(self, paused: Callable[[], bool]) -> None:
        """Do nothing: TCP keepalive does it."""
        del paused

    def _some(self, most: int) -> Sequence[bytes] | Oversized:
        first = self._ready[0]
        if isinstance(first, Oversized):
            del self._ready[0]
            return first
        some: list[bytes] = []
        for one in self._ready[:most]:
            if isinstance(one, Oversized):
                break
            some.append(one)
        del self._ready[: len(some)]
        return some

    async def _next(self) -> bytes:
        if self._left:
            raise SourceEnded(self._ended("the connection was left"))
        self._taking = asyncio.ensure_future(anext(self._pieces))
        try:
            piece = await self._taking
        except StopAsyncIteration:
            raise SourceEnded(self._ended("the source ended the stream of events")) from None
        except httpx.HTTPError as error:
            raise SourceEnded(self._ended(f"the stream of events broke: {masked(str(error))}")) from error
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise SourceEnded(self._ended("the connection was left")) from None
        self._taking = None
        self.answered_at = asyncio.get_running_loop().time()
        self._read.set()
        return piece

    def _ended(self, why: str) -> Loss:
        return Loss(why, wait=min(LONGEST_WAIT, self._parser.retry or 0.0))


@contextlib.asynccontextmanager
async def event_link(url: str, options: WebSocketOptions) -> AsyncIterator[EventLink]:
    """Open a stream of events; ``SourceEnded`` if that fails."""
    transport = httpx.AsyncHTTPTransport(
        verify=options.tls if options.tls is not None else system_trust(), proxy=options.proxy, socket_options=PROBES
    )
    given = {"Accept": "text/event-stream", "Cache-Control": "no-store", **PLAIN, **options.headers}
    headers = httpx.Headers(given, encoding="utf-8")  # as the standard wants it of Last-Event-ID
    timeout = httpx.Timeout(options.open_timeout, read=None)
    async with contextlib.AsyncExitStack() as stack:
        try:
            client = httpx.AsyncClient(transport=transport, timeout=timeout, trust_env=False)
            await stack.enter_async_context(client)
            async with asyncio.timeout(options.open_timeout):
                answer = await stack.enter_async_context(client.stream("GET", url, headers=headers))
        except TimeoutError:
            raise SourceEnded(Loss(f"{masked(url)} did not answer in {options.open_timeout:g} s")) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            said = tls_failure(error, ca=options.ca, cert=options.cert) or masked(str(error))
            raise SourceEnded(Loss(f"{masked(url)} cannot be read: {said}")) from error
        _check(answer)
        yield EventLink(answer, options.max_frame)


def _check(answer: httpx.Response) -> None:
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if answer.status_code == httpx.codes.NO_CONTENT:  # the standard's way to say: do not come back
        raise EventsRefused(Loss("the source has no more events (HTTP 204)", wait=STOPPED_SECONDS), 204)
    if answer.status_code != httpx.codes.OK:
        wait = retry_after(answer.headers.get("Retry-After", ""))
        raise EventsRefused(Loss(f"the source answered HTTP {answer.status_code}", wait=wait), answer.status_code)
    packing = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if packing not in ("", "identity"):  # a small piece may unpack to gigabytes, and nothing here limits that
        why = f"the source packs its events ({printable(packing[:40])}), and that was not asked for"
        raise EventsRefused(Loss(why, wait=STOPPED_SECONDS), 200)
    if kind != "text/event-stream":
        raise EventsRefused(Loss(f"the source sends {kind[:80] or 'something'}, not text/event-stream"), 200)
