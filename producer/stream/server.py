"""The stream: each WebSocket client is a cursor over the journal.

A live client reads from the shared tail, one that lags from the journal; a slow one waits in its own task
for its own socket, costs no memory and harms nobody. One that has everything is sent what comes as it comes,
and its task sleeps on. The handshake tells where the stream starts:

    unlost-cursor   the cursor after which the first frame comes
    unlost-oldest   the cursor just before the oldest event that there is
    unlost-gap      the cursor that was asked for and is not known; the stream starts where both histories part, or at
                    the oldest

A client that retention overtakes is sent away with 1012: on its return it learns of the gap.
"""

import asyncio
import http
from collections.abc import Callable, Sequence
from functools import partial
from socket import IPPROTO_TCP, TCP_NOTSENT_LOWAT
from typing import cast
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.protocol import State

from unlost.ops.kit.telemetry.admission import Admission, seats_within
from unlost.ops.kit.telemetry.http import listening_socket
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import Journal, JournalTrouble
from unlost.producer.journal.timelines import Start
from unlost.producer.stream.backlog import Backlog
from unlost.producer.stream.damage import Damage
from unlost.producer.stream.groups import Report, TooManyGroups, report_of
from unlost.producer.stream.handshake import BoundedConnection
from unlost.producer.stream.page import Page
from unlost.producer.stream.tail import Tail, wire_of, within

CHUNK = 512
CHUNK_BYTES = 256 * 1024
ALL_CHUNKS_BYTES = 16 * 1024 * 1024
"""What waits for all clients' sockets together, about: the more clients there are, the smaller are the chunks."""
WRITE_LIMIT = 8 * 1024
"""A client for whom more than this waits is written nothing; so no more than a chunk comes on top of it."""
UNSENT_BYTES = 128 * 1024
"""So much does the kernel keep for a client beside what is on its way to it; else up to 4 MiB. What is on its way has
no limit here: a distant client is sent as much as its connection holds."""
LONGEST_CURSOR = 512
MORE_SEATS = 100
"""For those that are told that there are too many."""


class Stream:
    """Serves ``/`` and ``/?after=<cursor>``; a plain browser sees the page."""

    def __init__(
        self,
        journal: Journal,
        tail: Tail,
        *,
        page: Page,
        origins: tuple[str, ...],
        most_clients: int,
        ping_timeout: float,
        sent: Callable[[int], None],
        damage: Damage,
        reported: Callable[[Report], None],
    ) -> None:
        self._journal = journal
        self._tail = tail
        self._backlog = Backlog(self._read)
        self._page = page
        self._origins = origins
        self._most_clients = most_clients
        self._ping_timeout = ping_timeout
        self._sent = sent
        self._damage = damage
        self._reported = reported
        self._server: Server | None = None
        self._starts: WeakKeyDictionary[ServerConnection, int] = WeakKeyDictionary()
        self._readers: set[_Reader] = set()
        self._page_at: int = 0
        self.clients = 0

    @property
    def lag(self) -> int:
        """By how many entries the slowest client lags behind the journal's end."""
        return self._tail.newest - min([one.number for one in self._readers], default=self._tail.newest)

    async def start(self, host: str, port: int, *, http_port: int) -> int:
        """Listen; the port. ``PortTaken`` where somebody else does. The page publishes to ``http_port``."""
        socket = listening_socket(host, port)
        socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # each connection inherits it
        self._page_at = http_port
        admission = Admission(budget=0, seats=seats_within(self._most_clients + MORE_SEATS), reserve=0)
        self._server = await serve(
            self._serve,
            sock=socket,
            process_request=self._before,
            process_response=self._after,
            compression=None,
            max_size=4_096,
            ping_interval=20.0,
            ping_timeout=self._ping_timeout,
            write_limit=WRITE_LIMIT,
            server_header=None,
            create_connection=cast("type[ServerConnection]", partial(BoundedConnection, admission=admission)),
        )
        return int(socket.getsockname()[1])

    async def stop(self) -> None:
        """Tell all clients that we go away (1001)."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _before(self, connection: ServerConnection, request: Request) -> Response | None:
        """What is no WebSocket of ours is answered here."""
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            return self._shown(request)
        if not self._welcome(request):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "pages of other sites may not read this stream\n")
        if self.clients >= self._most_clients:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    def _shown(self, request: Request) -> Response:
        body = self._page.publishing_to(self._page_at)
        headers = Headers({"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))})
        hostname = urlsplit(f"//{request.headers.get('Host', '')}").hostname or "127.0.0.1"
        headers["Content-Security-Policy"] = self._page.policy(f"{hostname}:{self._page_at}")
        headers["Connection"] = "close"
        return Response(200, "OK", headers, body)

    def _welcome(self, request: Request) -> bool:
        """Only browsers send an origin; theirs must be ours, or one that was allowed."""
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        host = urlsplit(origin).hostname
        ours = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        return (host is not None and host == ours) or origin in self._origins

    async def _after(self, connection: ServerConnection, request: Request, response: Response) -> Response | None:
        """Decide where this stream starts, and say so."""
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        try:
            bounds = await asyncio.to_thread(self._journal.bounds)
        except JournalTrouble as trouble:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{trouble}\n")
        asked = parse_qs(urlsplit(request.path).query, keep_blank_values=True).get("after", [None])[0]
        timelines = self._journal.timelines
        start = Start(self._tail.newest, is_known=True) if asked is None else timelines.start_after(asked, bounds)
        if not start.is_known:
            printable = "".join(char for char in asked or "" if char.isascii() and char.isprintable())
            response.headers["unlost-gap"] = printable[:LONGEST_CURSOR]
        response.headers["unlost-cursor"] = timelines.cursor(start.number)
        response.headers["unlost-oldest"] = timelines.cursor(bounds[0])
        self._starts[connection] = start.number
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self.clients += 1
        reader = _Reader(connection, self._starts[connection])
        grown = partial(self._pass_on, reader)
        self._readers.add(reader)
        self._tail.tell(grown)
        listening = asyncio.create_task(self._hear(connection), name="client's frames")
        listening.add_done_callback(lambda _: reader.stir.set())
        try:
            while not listening.done():
                if self._tail.newest > reader.number:
                    await self._send_next(reader)
                else:
                    await reader.rest()
        except ConnectionClosed:
            return
        except JournalTrouble as trouble:
            await connection.close(CloseCode.TRY_AGAIN_LATER, str(trouble)[:100])
        finally:
            self.clients -= 1
            self._tail.tell_no_more(grown)
            self._readers.discard(reader)
            listening.cancel()

    async def _hear(self, connection: ServerConnection) -> None:
        """Clients have nothing to say but what their group has settled; reading lets pongs and a close through."""
        try:
            async for message in connection:
                report = report_of(message)
                if report is not None:
                    self._reported(report)
        except ConnectionClosed:
            return
        except TooManyGroups as refusal:
            await connection.close(CloseCode.TRY_AGAIN_LATER, str(refusal))

    @property
    def _chunk_bytes(self) -> int:
        return min(CHUNK_BYTES, ALL_CHUNKS_BYTES // max(1, self.clients))

    def _pass_on(self, reader: "_Reader") -> None:
        """What has just come, to who has all that was before and room for more; its task wakes for nobody else."""
        if reader.is_ready:
            frames = self._tail.after(reader.number, CHUNK, self._chunk_bytes)
            if frames:
                reader.write(frames)
                self._sent(len(frames))
        if not reader.rests or self._tail.newest > reader.number:
            reader.stir.set()

    async def _send_next(self, reader: "_Reader") -> None:
        connection, number = reader.connection, reader.number
        frames = self._tail.after(number, CHUNK, self._chunk_bytes)
        if frames is None:
            frames = within(await self._backlog.after(number), self._chunk_bytes)
            if not frames:
                await connection.close(CloseCode.SERVICE_RESTART, "retention has removed what comes next")
                reader.number = self._tail.newest
                return
        async with connection.send_context():  # one write and one wait for many frames
            reader.write(frames)
            self._sent(len(frames))
            del frames  # who waits long keeps none of them

    def _read(self, number: int) -> list[bytes]:
        """From the journal; nothing where what comes next is not there any more."""
        entries = self._journal.read(number, CHUNK, CHUNK_BYTES)
        if not entries or entries[0].number != number + 1:
            return []
        damaged = damaged_of(entries)
        self._damage.meet(damaged)
        numbers = {entry.number for entry in damaged}
        # A damaged one has its place among them, and nothing on the wire.
        return [b"" if one.number in numbers else wire_of(one, self._journal.timelines) for one in entries]


class _Reader:
    """A client, and how far it was sent."""

    def __init__(self, connection: ServerConnection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.stir = asyncio.Event()
        self.rests = False
        """Its task has nothing to do."""

    async def rest(self) -> None:
        """Until stirred."""
        self.stir.clear()
        self.rests = True
        try:
            await self.stir.wait()
        finally:
            self.rests = False

    @property
    def is_ready(self) -> bool:
        """Whether what is written now follows what was written before, and nobody need wait for room."""
        connection = self.connection
        is_open = connection.state is State.OPEN and not connection.transport.is_closing()
        # Stirred, but not awake yet, its task is about to look by itself.
        return is_open and self.rests and not (self.stir.is_set() or connection.paused)

    def write(self, frames: Sequence[bytes]) -> None:
        """To the wire; who calls sees to it that there is room."""
        self.connection.transport.write(b"".join(frames))
        self.number += len(frames)
