"""A connection to NATS: requests to JetStream, and batches in both directions.

The library only carries messages. It never reconnects by itself: after any failure, the next call opens another
connection, perhaps to another server of the cluster.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from unlost.producer.journal.jetstream.messages import Message
from unlost.producer.journal.nats_address import JetStreamAddress

T = TypeVar("T")

API = "$JS.API"
CONNECT_SECONDS = 2
OPEN_SECONDS = 5.0
AGAIN_SECONDS = 0.1
CALL_SECONDS = 5.0
ASK_AGAIN_SECONDS = 0.5
LEAVE_SECONDS = 1.0
PING_SECONDS = 5
WRONG_LAST, KNOWN_IN_BATCH, KNOWN_SOON, NO_MESSAGE, NO_STREAM = 10071, 10201, 10158, 10037, 10059
WRONG_LAST_TOO = 10164
END_OF_BATCH, NOTHING_FOUND = "204", "404"
LIBRARY_ERRORS = (nats.errors.Error, OSError, asyncio.InvalidStateError, msgspec.DecodeError, ValueError)
"""A timeout is an ``OSError``. ``ValueError``: a value that cannot be sent, such as half a character."""


class ApiError(msgspec.Struct, frozen=True):
    """The error in an answer that refuses a request."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class RequestRefused(Exception):
    """The server has refused a request, and has done nothing."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.description)
        self.code = error.err_code

    @property
    def in_doubt(self) -> bool:
        """Whether a message with this id may be stored nevertheless: another attempt at it is under way."""
        return self.code == KNOWN_SOON


class ApiAnswer(msgspec.Struct):
    """Any answer of the API."""

    error: ApiError | None = None


class PublishAck(ApiAnswer):
    """The answer to a publication: its sequence number, that of the last one of a batch."""

    seq: int = 0
    duplicate: bool = False


def in_doubt(error: BaseException) -> bool:
    """Whether the server may have stored something in spite of this error."""
    if isinstance(error, RequestRefused):
        return error.in_doubt
    return not isinstance(error, ValueError)


class JetStreamConnection:
    """A connection that is opened when it is first needed."""

    def __init__(self, address: JetStreamAddress, name: str) -> None:
        self._address = address
        self._name = name
        self._opening = asyncio.Lock()
        self._client: Client | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self.ended = asyncio.Event()
        """The connection that was opened last has ended."""

    async def client(self) -> Client:
        """The open connection. Raises errors of the library."""
        async with self._opening:
            if self._client is None or self._client.is_closed:
                self._client = await self._connected()
            return self._client

    async def _connected(self) -> Client:
        async def ignore(_: Exception) -> None:  # the library would log it; the call that fails reports it
            pass

        async def ended() -> None:
            self.ended.set()

        client = Client()
        self.ended.clear()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await client.connect(
                    list(self._address.servers),
                    name=self._name,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of each server, before the library gives up
                    reconnect_time_wait=AGAIN_SECONDS,  # type: ignore[arg-type]  # the library passes it to a sleep
                    connect_timeout=CONNECT_SECONDS,
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=2,
                    error_cb=ignore,
                    closed_cb=ended,
                    disconnected_cb=ended,
                    user_credentials=self._address.creds,
                )
        except BaseException:
            self._leave(client)
            raise
        return client

    def _cut(self, client: Client) -> None:
        """Leave this connection, in the background. The next call opens another."""
        if self._client is client:  # no other call that failed has done that before
            self._client = None
            self._leave(client)

    def _leave(self, client: Client) -> None:
        task = asyncio.create_task(_closed(client), name="leave NATS")
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Leave for good."""
        client, self._client = self._client, None
        if client is not None:
            await _closed(client)

    async def ask(self, subject: str, body: bytes, kind: type[T], headers: Mapping[str, str] | None = None) -> T:
        """Send a request, and decode the answer. Raises ``RequestRefused``, or errors of the library."""
        client = await self.client()
        try:
            reply = await client.request(
                subject, body, timeout=CALL_SECONDS, headers=dict(headers) if headers else None
            )
        except BaseException:
            self._cut(client)
            raise
        return decoded(reply.data, kind)

    async def api(self, call: str, request: object, kind: type[T]) -> T:
        """Call JetStream's API. The call may be made twice, so twice must be as good as once."""
        body = b"" if request is None else msgspec.json.encode(request)
        client = await self.client()
        try:
            reply = await _first_reply(client, f"{API}.{call}", body)
        except BaseException:
            self._cut(client)
            raise
        return decoded(reply.data, kind)

    async def publish(self, messages: Sequence[Message], expected_last: int) -> PublishAck:
        """Store these messages, all or nothing, if the stream's last number is the expected one."""
        expected = {"Nats-Expected-Last-Sequence": str(expected_last)}
        if len(messages) == 1:
            one = messages[0]
            return await self.ask(one.subject, one.body, PublishAck, one.headers | expected)
        *some, last = messages
        batch = {"Nats-Batch-Id": secrets.token_hex(12)}
        client = await self.client()
        try:
            for number, one in enumerate(some, 1):
                headers = one.headers | batch | {"Nats-Batch-Sequence": str(number)} | (expected if number == 1 else {})
                await client.publish(one.subject, one.body, headers=headers)
        except BaseException:
            self._cut(client)
            raise
        end = {"Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
        return await self.ask(last.subject, last.body, PublishAck, last.headers | batch | end)

    async def tell(self, subject: str, body: bytes) -> None:
        """Publish without an answer. Errors are ignored."""
        with suppress(*LIBRARY_ERRORS):
            await (await self.client()).publish(subject, body)

    async def several(self, stream: str, request: Mapping[str, Any]) -> list[Msg]:
        """Read several messages at once, from any server that has a copy. A copy may lack the newest."""
        found: list[Msg] = []
        ended: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def receive(message: Msg) -> None:
            if not _status(message):
                found.append(message)
            elif not ended.done():
                ended.set_result(message)

        client = await self.client()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                inbox = client.new_inbox()
                subscription = await client.subscribe(inbox, cb=receive, pending_msgs_limit=0, pending_bytes_limit=0)
                await client.publish(f"{API}.DIRECT.GET.{stream}", msgspec.json.encode(request), reply=inbox)
                end = await ended
                await subscription.unsubscribe()
        except BaseException:
            self._cut(client)
            raise
        if _status(end) not in (END_OF_BATCH, NOTHING_FOUND):
            raise RequestRefused(ApiError(int(_status(end)), 0, (end.headers or {}).get("Description", "")))
        return found


async def _first_reply(client: Client, subject: str, body: bytes) -> Msg:
    """Ask until a reply comes. Nobody ever answers what was asked while a stream had no leader.

    Each time it waits twice as long, so that slow servers do not get many more requests.
    """
    asked: list[asyncio.Task[Msg]] = []
    patience = ASK_AGAIN_SECONDS
    try:
        async with asyncio.timeout(CALL_SECONDS):
            while True:
                asked.append(asyncio.create_task(client.request(subject, body, timeout=CALL_SECONDS)))
                done, _ = await asyncio.wait(asked, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return done.pop().result()
                patience *= 2
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def decoded(data: bytes, kind: type[T]) -> T:
    """The answer, unless it is a refusal."""
    error = msgspec.json.decode(data, type=ApiAnswer).error
    if error is not None:
        raise RequestRefused(error)
    return msgspec.json.decode(data, type=kind)


def _status(message: Msg) -> str:
    return (message.headers or {}).get("Status", "")


async def _closed(client: Client) -> None:
    with suppress(Exception):  # what leaving raises matters to nobody
        async with asyncio.timeout(LEAVE_SECONDS):
            await client.close()
