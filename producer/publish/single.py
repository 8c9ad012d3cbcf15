"""Publishing one event, without the web framework. Nearly all requests come here, and the framework's overhead would
cost them more than the work itself. ``take`` does the work. The class is also an ASGI application, for requests that
are not plain (``producer/fast/publish.py``)."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp, Receive, Scope, Send

from unlost.ops.kit.access.limits import Quota
from unlost.producer.journal.port import JournalError, Placed
from unlost.producer.journal.publications import Publication
from unlost.producer.publish.accept import STATUS, Answer, NotAccepted, answer
from unlost.producer.publish.batch import CountOutcome
from unlost.producer.publish.piece_buffer import PieceBuffer
from unlost.producer.publish.publisher import GroupCommit, Overloaded

UNAVAILABLE = 503
RETRY = b"retry-after", b"1"
"""The header of a 503 answer."""

Read = Callable[[bytes, bool], Publication]
"""Makes a publication from a body and the flag ``redeliver``, or raises ``NotAccepted``."""

QuotaOf = Callable[[Scope], Quota]
"""Returns what the identity of a request may still publish."""

Reply = Callable[[int, bytes], None]
"""Receives the status and the JSON body of an answer."""

Failed = Callable[[Exception], None]
"""Receives a defect, for which there is no answer."""

_encode = msgspec.json.Encoder().encode


class PublishOne:
    """Answers a POST with the outcome of the event in its body."""

    def __init__(
        self, publisher: GroupCommit, count_outcome: CountOutcome, read: Read, *, max_bytes: int,
        quota_of: QuotaOf,
    ) -> None:  # fmt: skip
        """``quota_of``: what the identity of a request may still publish."""
        self._publisher = publisher
        self._count_outcome = count_outcome
        self._read = read
        self._quota_of = quota_of
        self._max_bytes = max_bytes

    def take(self, body: bytes, query: bytes, quota: Quota, reply: Reply, failed: Failed) -> None:
        """Publish the event in this body. Exactly one callback is called, once: now, or when the event is on disk."""
        quota.charge(1, len(body))
        try:
            one = self._read(body, asks_again(query))
            self._publisher.submit((one,), partial(self._placed, one.event_id, reply, failed), owner=quota)
        except NotAccepted as refused:
            self._answer(reply, answer(refused, refused.event_id))
        except Overloaded as error:
            self._unavailable(reply, one.event_id, error)

    def _placed(self, event_id: str, reply: Reply, failed: Failed, outcome: Sequence[Placed] | Exception) -> None:
        if isinstance(outcome, JournalError):
            self._unavailable(reply, event_id, outcome)
        elif isinstance(outcome, Exception):
            failed(outcome)
        else:
            self._answer(reply, answer(outcome[0], event_id))

    def _answer(self, reply: Reply, answer: Answer) -> None:
        self._count_outcome(answer.status, 1)
        reply(STATUS[answer.status], _encode(answer))

    def _unavailable(self, reply: Reply, event_id: str, error: Exception) -> None:
        self._count_outcome("unavailable", 1)
        reply(UNAVAILABLE, _encode(Answer(UNSET, "unavailable", event_id, UNSET, str(error))))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        replied: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        try:
            body = await self._body(receive)
            if body is None:
                return
        except NotAccepted as refused:
            self._answer(partial(_reply, replied), answer(refused, refused.event_id))
        else:
            self.take(
                body, scope["query_string"], self._quota_of(scope), partial(_reply, replied), partial(_fail, replied)
            )
        await _send(send, *await replied)

    async def _body(self, receive: Receive) -> bytes | None:
        """The complete body, or None if the client disconnected."""
        body = PieceBuffer()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body.add(message.get("body", b""))
            if len(body) > self._max_bytes:
                raise NotAccepted("too_large", f"the body has more than the {self._max_bytes:,} bytes that are allowed")
            if not message.get("more_body", False):
                return body.take()


class Shortcut:
    """Routes POSTs to one path past the framework's router."""

    def __init__(self, app: ASGIApp, path: str, single: PublishOne) -> None:
        self._app = app
        self._path = path
        self._single = single

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to one of the two."""
        if scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST":
            await self._single(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def asks_again(query: bytes) -> bool:
    """Whether the query asks to send a known event once more."""
    if not query:
        return False
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("redeliver", [""])
    return values[-1].lower() in ("1", "true", "yes")


def _reply(replied: asyncio.Future[tuple[int, bytes]], status: int, body: bytes) -> None:
    if not replied.done():  # a stopping server cancels a request that waits too long
        replied.set_result((status, body))


def _fail(replied: asyncio.Future[tuple[int, bytes]], defect: Exception) -> None:
    if not replied.done():
        replied.set_exception(defect)


async def _send(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == UNAVAILABLE:
        headers.append(RETRY)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
