"""A socket at which libpq finds the session of a row's transaction. Messages pass in both directions, unchanged.

To libpq it is a server that asks for no password and is in a transaction already. Its messages go to the server,
on the connection that has inserted the row, and the answers come back. Only the message that would end the session is
kept back. The socket lies in a directory that no other user may enter. It takes one client, and its requests to cancel.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

from unlost.listener.core.errors import Transient
from unlost.listener.ports.rows import HandlerConnection

PORT = 5432
HEAD = 5
TERMINATE, READY = ord("X"), ord("Z")
REQUESTS = frozenset(b"QSF")
"""Each is answered with one ReadyForQuery."""
PARTS = frozenset(b"PBDECH")
"""Parts of a request that ends with a Sync."""
CANCEL = 80877102
ENCRYPTION = (80877103, 80877104)
LONGEST_STARTUP = 10_000
REPORTED = (
    "server_version", "server_encoding", "client_encoding", "is_superuser", "session_authorization", "DateStyle",
    "IntervalStyle", "TimeZone", "integer_datetimes", "standard_conforming_strings",
)  # fmt: skip
GOODBYE_SECONDS = 1.0
ADDRESS: dict[str, Any] = {
    "port": PORT, "user": "row", "dbname": "row", "sslmode": "disable", "gssencmode": "disable",
    "target_session_attrs": "any", "connect_timeout": 10,
}  # fmt: skip
"""Parameters that libpq would otherwise read from the environment."""


class RelayFailed(Transient):
    """The session cannot be passed on, or a route left its connection in the middle of a statement."""


class Messages:
    """Finds the messages in a stream of bytes. It holds back at most the head of one."""

    def __init__(self) -> None:
        self._held = b""
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int | None, bytes]]:
        """Yield the bytes in pieces, each head with the type of its message, all else with None."""
        data, self._held, at = self._held + data, b"", 0
        while at < len(data):
            if self._left:
                end = min(at + self._left, len(data))
                yield None, data[at:end]
                self._left -= end - at
                at = end
            elif len(data) - at < HEAD:
                self._held = data[at:]
                return
            else:
                self._left = max(0, int.from_bytes(data[at + 1 : at + HEAD], "big") - 4)
                yield data[at], data[at : at + HEAD]
                at += HEAD


class Relay(asyncio.Protocol):
    """The client's side; ``server`` is the other one."""

    def __init__(self, greeting: bytes) -> None:
        self._greeting = greeting
        self._startup: bytes | None = b""
        self._messages = Messages()
        self._client: asyncio.Transport | None = None
        self._pending = 0
        self._unfinished = False
        self.server = _Server(self)
        self.to_server: asyncio.Transport | None = None
        self.ended = asyncio.Event()

    @property
    def was_connected(self) -> bool:
        """Whether a client has come."""
        return self._client is not None

    @property
    def is_clean(self) -> bool:
        """Whether the server has answered everything that was sent to it."""
        return self._pending == 0 and not self._unfinished

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``, as for the next methods."""
        self._client = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sends."""
        if self._startup is not None:
            self._greet(self._startup + data)
            return
        passed = []
        for kind, piece in self._messages.feed(data):
            if kind == TERMINATE:
                break
            self._count(kind)
            passed.append(piece)
        if self.to_server is not None:
            self.to_server.write(b"".join(passed))

    def _count(self, kind: int | None) -> None:
        if kind in REQUESTS:
            self._pending += 1
            self._unfinished = False
        elif kind in PARTS:
            self._unfinished = True

    def _greet(self, data: bytes) -> None:
        assert self._client is not None
        self._startup = data
        length, code = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
        if length > LONGEST_STARTUP or (len(data) >= 8 and code >> 16 != 3 and code not in ENCRYPTION):
            self._client.abort()
        elif len(data) >= 8 and code in ENCRYPTION:
            self._startup = b""
            self._client.write(b"N")
        elif len(data) >= max(length, 8):
            self._startup = None
            self._client.write(self._greeting)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """The client has left."""
        self.ended.set()

    def pause_writing(self) -> None:
        """The client reads slowly: so is the server read."""
        if self.to_server is not None:
            self.to_server.pause_reading()

    def resume_writing(self) -> None:
        """See ``pause_writing``."""
        if self.to_server is not None:
            self.to_server.resume_reading()

    def answered(self, data: bytes, ready: int) -> None:
        """Pass on what the server sends, with so many ReadyForQuery in it."""
        self._pending -= ready
        if self._client is not None:
            self._client.write(data)

    def hold(self, *, held: bool) -> None:
        """Read no more from the client, or read on."""
        if self._client is not None and not self._client.is_closing():
            self._client.pause_reading() if held else self._client.resume_reading()

    def abort(self) -> None:
        """Disconnect the client."""
        if self._client is not None:
            self._client.abort()


class _Server(asyncio.Protocol):
    """The server's side."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._messages = Messages()

    def data_received(self, data: bytes) -> None:
        ready = sum(kind == READY for kind, _ in self._messages.feed(data))
        self._relay.answered(data, ready)

    def pause_writing(self) -> None:
        self._relay.hold(held=True)

    def resume_writing(self) -> None:
        self._relay.hold(held=False)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._relay.abort()


class _Cancelling(asyncio.Protocol):
    """A further client: libpq asks in this way to cancel the statement of the first."""

    def __init__(self, connection: Any, tasks: set[asyncio.Task[None]]) -> None:
        self._connection = connection
        self._tasks = tasks
        self._read = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if len(self._read) < 8 and not self._tasks:
            return
        if int.from_bytes(self._read[4:8], "big") == CANCEL and not self._tasks:
            task = asyncio.create_task(self._connection.cancel_statement(), name="cancelling a statement")
            self._tasks.add(task)
            task.add_done_callback(self._end)
        elif self._transport is not None:
            self._transport.abort()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def offered(connection: HandlerConnection) -> AsyncIterator[dict[str, Any]]:
    """Offer the connection's session at a socket; yield libpq's parameters.

    At the end, a client that is still there is disconnected. If the server has not answered everything by then, the
    connection is closed: nobody can know any more what its next answer belongs to.
    """
    real: Any = connection
    shared_transport = getattr(real, "shared_transport", None)
    if shared_transport is None:
        raise RelayFailed("a psycopg connection needs FAST=on: asyncpg's own connections share no transport")
    relay = Relay(_greeting(real.get_settings()))
    first = iter((relay,))
    cancelling: set[asyncio.Task[None]] = set()
    with tempfile.TemporaryDirectory(prefix="unlost-") as directory:
        server = await asyncio.get_running_loop().create_unix_server(
            lambda: next(first, None) or _Cancelling(real, cancelling), f"{directory}/.s.PGSQL.{PORT}"
        )
        try:
            with shared_transport(relay.server) as relay.to_server:
                try:
                    yield {"host": directory, **ADDRESS}
                finally:
                    await _disconnect(relay)
        finally:
            server.close()
            if not relay.is_clean:
                try:
                    await real.cancel_statement()
                finally:
                    real.terminate()  # if the server could not be asked, the statement ends with this connection
            await asyncio.gather(*cancelling, return_exceptions=True)
    if not relay.is_clean:
        raise RelayFailed("the route left its connection in the middle of a statement")


async def _disconnect(relay: Relay) -> None:
    """Wait for the client's goodbye, but not for long."""
    if not relay.was_connected:
        return
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await relay.ended.wait()
    finally:
        relay.abort()
        relay.resume_writing()


def _greeting(settings: Any) -> bytes:
    """A server's messages to a client that has logged in, in a transaction."""
    values = [(name, getattr(settings, name, None)) for name in REPORTED]
    parameters = [name.encode() + b"\0" + str(value).encode() + b"\0" for name, value in values if value is not None]
    return b"".join(
        [
            _message(b"R", bytes(4)),
            *(_message(b"S", one) for one in parameters),
            _message(b"K", bytes(8)),
            _message(b"Z", b"T"),
        ]
    )


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body
