"""Publishers: clients of a producer's HTTP endpoint, one asynchronous and one that blocks.

They retry until the outcome of each event is known, always under the same id, so that a retry doubles nothing. If the
producer is busy (503), they wait for as long as it asks.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from unlost.producer.client.ahead import Events, ReadAhead
from unlost.producer.client.conversation import (
    Conversation,
    NoReply,
    Outgoing,
    Patience,
    PauseFor,
    PostBody,
    Reply,
    outgoing,
    publish_all,
    publish_one,
)
from unlost.producer.client.outcome import Published, PublishRejected, PublishUnavailable
from unlost.producer.client.trace import current_trace, nothing

DEFAULT_URL = "http://127.0.0.1:3005"
CONNECTIONS = 16
"""The number of requests sent at once. Further callers wait."""
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)

T = TypeVar("T")


class _Options:
    """The common part of both publishers."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        trace: bool = False,
    ) -> None:
        """``token``: for a producer with TOKENS_FILE. ``timeout``: seconds to try without any progress.

        ``trace``: each event without a ``traceparent`` gets that of the current span of OpenTelemetry. It is a part of
        the event: publishing the same id again within another span is a conflict.
        """
        self._timeout = timeout
        self._trace = current_trace() if trace else nothing
        self._client: dict[str, Any] = {
            "base_url": url,
            "headers": {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})},
            # No limit for the pool: callers that wait for a connection are this client's backpressure.
            "timeout": httpx.Timeout(min(timeout, 10.0), pool=None),
            "limits": httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            # The producer is on our own network, where a proxy from the environment does not lead.
            "trust_env": False,
        }

    def _write(self, event: Mapping[str, Any]) -> Outgoing:
        return outgoing({**self._trace(), **event}, _new_id)

    def _one(self, payload: Any, event_id: str | None, type_: str | None, fields: Mapping[str, Any] | None) -> Outgoing:
        event = {**(fields or {}), "payload": payload}
        if type_ is not None:
            event["type"] = type_
        return self._write(event if event_id is None else {**event, "event_id": event_id})

    def _patience(self) -> Patience:
        return Patience(self._timeout, time.monotonic, random.random)


def _taken(
    events: Iterator[Mapping[str, Any]], most: int, write: Callable[[Mapping[str, Any]], Outgoing]
) -> tuple[list[Outgoing], Exception | None]:
    """Take so many events, and return what taking or writing one raised: those before it must not be lost."""
    part: list[Outgoing] = []
    try:
        for event in islice(events, most):
            part.append(write(event))  # noqa: PERF401  what was appended stays when an event fails
    except Exception as error:  # noqa: BLE001  the caller's border: raised after the outcomes of these
        return part, error
    return part, None


def _left(part: Sequence[Outgoing], known: int, ahead: Sequence[Outgoing]) -> tuple[Mapping[str, Any], ...]:
    return tuple(msgspec.json.decode(one.line) for one in (*part[known:], *ahead))


def _new_id() -> str:
    return str(uuid.uuid4())


class Publisher(_Options):
    """Publishes events: ``async with Publisher("http://producer:3005") as publisher: ...``."""

    async def __aenter__(self) -> Self:
        """Open it. Connections are made when they are needed."""
        self._http = httpx.AsyncClient(**self._client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def publish(
        self,
        payload: Any,
        *,
        event_id: str | None = None,
        type: str | None = None,  # noqa: A002  the event's field
        fields: Mapping[str, Any] | None = None,
        redeliver: bool = False,
    ) -> Published:
        """Publish one event; return once it is on the producer's disk.

        Raises ``PublishRefused`` if it can never be, ``PublishInDoubt`` if no answer came in time. Without ``event_id``
        it gets a random one. ``fields`` are kept beside the payload.
        """
        event = self._one(payload, event_id, type, fields)
        return await self._hold(publish_one(event, self._patience(), redeliver=redeliver))

    async def publish_batch(self, events: Iterable[Mapping[str, Any]], *, redeliver: bool = False) -> list[Published]:
        """Publish many events; return the outcome of each, in order, those of refused ones too.

        Each is a mapping with ``payload`` and, if wanted, ``event_id``, ``type`` and other fields. On
        ``PublishInDoubt``, ``published`` of the error has the outcomes that are known.
        """
        written = [self._write(event) for event in events]
        return await self._hold(publish_all(written, self._patience(), redeliver=redeliver))

    async def stream(self, events: Events, *, redeliver: bool = False) -> AsyncGenerator[Published, None]:
        """Publish events as they come, and yield the outcome of each, in order, once it is known.

        While some are under way, at most as many as one request carries are taken from ``events`` ahead. A producer
        that is busy therefore holds the iterable up, and so does a caller that takes no outcomes. An error of
        ``events`` is raised after the outcomes of all events before it. On ``PublishInDoubt`` and its like, ``left`` of
        the error has all events without an outcome: publish them again.
        """
        ahead = ReadAhead(events, self._write)
        filling = asyncio.create_task(ahead.fill(), name="events to publish")
        try:
            while part := await ahead.part():
                for published in await self._part(part, ahead, redeliver=redeliver):
                    yield published
            await filling
        finally:
            filling.cancel()
            await asyncio.gather(filling, return_exceptions=True)

    async def _part(self, part: list[Outgoing], ahead: ReadAhead, *, redeliver: bool) -> list[Published]:
        try:
            return await self._hold(publish_all(part, self._patience(), redeliver=redeliver))
        except (PublishRejected, PublishUnavailable) as error:
            error.left = _left(part, len(error.published), ahead.taken())
            raise error from ahead.failed

    async def _hold(self, conversation: Conversation[T]) -> T:
        answer: Reply | NoReply | None = None
        try:
            while True:
                step = conversation.send(answer)
                answer = None
                if isinstance(step, PauseFor):
                    await asyncio.sleep(step.seconds)
                else:
                    answer = await self._send(step)
        except StopIteration as ended:
            result: T = ended.value
            return result

    async def _send(self, step: PostBody) -> Reply | NoReply:
        try:
            async with self._http.stream(
                "POST", step.path, content=step.body, headers={"Content-Type": step.content_type}
            ) as response:
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > step.max_answer:
                        return NoReply(f"the answer has more than {step.max_answer:,} bytes", sent=True)
        except httpx.TransportError as error:
            return _no_reply(error)
        return _reply(response, bytes(body))


class SyncPublisher(_Options):
    """Publishes events from code that blocks: ``with SyncPublisher() as publisher: ...``. Threads may share one."""

    def __enter__(self) -> Self:
        """Open it. Connections are made when they are needed."""
        self._http = httpx.Client(**self._client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        self._http.close()

    def publish(
        self,
        payload: Any,
        *,
        event_id: str | None = None,
        type: str | None = None,  # noqa: A002  the event's field
        fields: Mapping[str, Any] | None = None,
        redeliver: bool = False,
    ) -> Published:
        """See ``Publisher``."""
        event = self._one(payload, event_id, type, fields)
        return self._hold(publish_one(event, self._patience(), redeliver=redeliver))

    def publish_batch(self, events: Iterable[Mapping[str, Any]], *, redeliver: bool = False) -> list[Published]:
        """See ``Publisher``."""
        written = [self._write(event) for event in events]
        return self._hold(publish_all(written, self._patience(), redeliver=redeliver))

    def stream(
        self, events: Iterable[Mapping[str, Any]], *, at_once: int = 500, redeliver: bool = False
    ) -> Generator[Published, None, None]:
        """See ``Publisher``. Events are taken and sent ``at_once`` at a time: nothing waits beside this thread."""
        taking, failed = iter(events), None
        while failed is None:
            part, failed = _taken(taking, at_once, self._write)
            if not part:
                break
            try:
                ended = self._hold(publish_all(part, self._patience(), redeliver=redeliver))
            except (PublishRejected, PublishUnavailable) as error:
                error.left = _left(part, len(error.published), ())
                raise error from failed
            yield from ended
        if failed is not None:
            raise failed

    def _hold(self, conversation: Conversation[T]) -> T:
        answer: Reply | NoReply | None = None
        try:
            while True:
                step = conversation.send(answer)
                answer = None
                if isinstance(step, PauseFor):
                    time.sleep(step.seconds)
                else:
                    answer = self._send(step)
        except StopIteration as ended:
            result: T = ended.value
            return result

    def _send(self, step: PostBody) -> Reply | NoReply:
        try:
            with self._http.stream(
                "POST", step.path, content=step.body, headers={"Content-Type": step.content_type}
            ) as response:
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if len(body) > step.max_answer:
                        return NoReply(f"the answer has more than {step.max_answer:,} bytes", sent=True)
        except httpx.TransportError as error:
            return _no_reply(error)
        return _reply(response, bytes(body))


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(response.status_code, body, response.headers.get("Retry-After"))


def _no_reply(error: httpx.TransportError) -> NoReply:
    return NoReply(f"{type(error).__name__}: {error}".removesuffix(": "), not isinstance(error, NOT_SENT))
