"""The endpoint for CloudEvents: one, structured or binary, or a batch of them with an answer for each."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from unlost.listener.core.errors import InvalidEvent
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.publish.accept import NotAccepted
from unlost.producer.publish.batch import LINES_IN_A_TURN
from unlost.producer.publish.cloudevents import BatchLines, event_of, is_batch, refused
from unlost.producer.publish.piece_buffer import PieceBuffer
from unlost.producer.publish.single import UNAVAILABLE, PublishOne, QuotaOf

AnswerLines = Callable[[Request, AsyncIterable[bytes], int], Awaitable[Response]]
"""Publishes lines of at most so many bytes together, and answers each."""
LONGER = 4
"""Our lines may have this many times the bytes of the batch: each has an id, or the reason why it is refused."""


class PublishCloudEvents:
    """Makes events of ours of them, and publishes these as other requests do."""

    def __init__(
        self,
        single: PublishOne,
        answer_lines: AnswerLines,
        quota_of: QuotaOf,
        settings: ProducerSettings,
    ) -> None:
        self._single = single
        self._answer_lines = answer_lines
        self._quota_of = quota_of
        self._settings = settings

    async def answer(self, request: Request) -> Response:
        """Answer one request."""
        kind = request.headers.get("content-type", "")
        most = self._settings.max_event_bytes
        try:
            if is_batch(kind):
                return await self._answer_lines(request, self._lines(request), LONGER * self._settings.max_batch_bytes)
            body = await _body_within(request, most)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            why = f"the body has more than the {most:,} bytes that are allowed"
            return JSONResponse({"status": "too_large", "event_id": None, "error": why}, 413)
        status, answer = await self._published(event_of(kind, request.headers, body), request.scope)
        headers = {"Retry-After": "1"} if status == UNAVAILABLE else {}
        return Response(answer, status, headers, media_type="application/json")

    async def _lines(self, request: Request) -> AsyncIterator[bytes]:
        """The lines of a batch, as its pieces arrive. After so many, other tasks get a turn."""
        most, read = self._settings.max_batch_bytes, 0
        batch = BatchLines(max_item_bytes=2 * self._settings.max_event_bytes)
        try:
            async for piece in request.stream():
                read += len(piece)
                if read > most:
                    raise NotAccepted("too_large", f"the batch has more than the {most:,} bytes that are allowed")
                for number, line in enumerate(batch.feed(piece), 1):
                    yield line + b"\n"
                    if number % LINES_IN_A_TURN == 0:
                        await asyncio.sleep(0)
            batch.end()
        except InvalidEvent as error:
            yield refused(f"a batch is a JSON array of CloudEvents: {error}") + b"\n"

    async def _published(self, line: bytes, scope: Scope) -> tuple[int, bytes]:
        answered: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

        def reply(status: int, answer: bytes) -> None:
            if not answered.done():
                answered.set_result((status, answer))

        def failed(defect: Exception) -> None:
            if not answered.done():
                answered.set_exception(defect)

        self._single.take(line, scope["query_string"], self._quota_of(scope), reply, failed)
        return await answered


async def _body_within(request: Request, most: int) -> bytes | None:
    body = PieceBuffer()
    async for chunk in request.stream():
        body.add(chunk)
        if len(body) > most:
            return None
    return body.take()
