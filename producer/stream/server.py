"""The stream: each WebSocket client is a cursor over the journal.

A client that is up to date reads from the shared tail, and one that lags reads from the journal. A slow client waits in
its own task for its own socket; it uses no memory and delays nobody. A client that has everything is sent new frames
directly as they come, without waking its task. The handshake's response says where the stream starts:

    unlost-cursor   the cursor after which the first frame comes
    unlost-oldest   the cursor just before the oldest event that can be read
    unlost-gap      the requested cursor, if it is unknown; the stream then starts where both histories part, or at the
                    oldest event
    unlost-max-event  size of the largest event, in bytes; a listener that cannot read that much does not begin
    unlost-format   lines, if the client asked for many events in one message (``messages.py``); or partitions, if it
                    asked for some by ``?partitions=3,17/64`` (``partitions.py``)

A client that retention overtakes is disconnected with 1012 (service restart). When it reconnects, it gets
``unlost-gap``.
"""

import asyncio
import http
from collections import Counter
from collections.abc import Callable
from functools import partial
from socket import IPPROTO_TCP, TCP_NOTSENT_LOWAT
from typing import cast
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary, WeakSet

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.identity import Identity, Right
from unlost.ops.kit.access.request import Pass, Refusal, too_many
from unlost.ops.kit.telemetry.admission import Admission, seats_within
from unlost.ops.kit.telemetry.http import listening_socket
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import Journal, JournalError
from unlost.producer.journal.timelines import Start
from unlost.producer.stream.access import REVOKED, asked, may_not_report, refused, subprotocol
from unlost.producer.stream.backlog import Backlog
from unlost.producer.stream.client import StreamClient
from unlost.producer.stream.damage import DamagedEntries
from unlost.producer.stream.groups import CursorReport, TooManyGroups, report_of
from unlost.producer.stream.handshake import BoundedConnection
from unlost.producer.stream.messages import ACCEPT, FORMAT, LINES, Carry, in_lines, one_by_one
from unlost.producer.stream.page import PageFiles
from unlost.producer.stream.partitions import MOST, PARTITIONS, Partitioner, Share, in_partitions, share_of, upto
from unlost.producer.stream.tail import Tail, within

CHUNK = 512
CHUNK_BYTES = 256 * 1024
ALL_CHUNKS_BYTES = 16 * 1024 * 1024
"""About how many bytes may wait for the sockets of all clients together. The more clients, the smaller the chunks."""
WRITE_LIMIT = 8 * 1024
"""Nothing is written to a client with more unsent bytes than this, so at most one chunk comes on top."""
UNSENT_BYTES = 128 * 1024
"""How much unsent data the kernel keeps per client, instead of up to 4 MiB. Data in flight is not limited here: a
distant client is sent as much as its connection can carry."""
ANNOUNCE_SECONDS = 0.5
"""So often a client of some partitions is sent how far the stream has gone, if it is sent nothing else."""
LONGEST_CURSOR = 512
STREAM_SECONDS = 5.0
"""After so long, a client with too many streams may try again."""
MORE_SEATS = 100
"""Connections beyond ``most_clients`` that are accepted only to answer that there are too many."""


class StreamServer:
    """Serves ``/`` and ``/?after=<cursor>``; a plain browser sees the page."""

    def __init__(
        self,
        journal: Journal,
        tail: Tail,
        *,
        page: PageFiles,
        gate: Gate,
        right: Right,
        most_clients: int,
        max_event: int,
        ping_timeout: float,
        sent: Callable[[int], None],
        damage: DamagedEntries,
        reported: Callable[[CursorReport], None],
    ) -> None:
        """``right``: what a client needs to read the stream."""
        self._journal = journal
        self._tail = tail
        self._right = right
        self._backlog = Backlog(self._read)
        self._page = page
        self._gate = gate
        self._most_clients = most_clients
        self._max_event = max_event
        self._ping_timeout = ping_timeout
        self._sent = sent
        self._damage = damage
        self._reported = reported
        self._server: Server | None = None
        self._starts: WeakKeyDictionary[ServerConnection, int] = WeakKeyDictionary()
        self._carries: dict[bool, Carry] = {
            False: one_by_one(journal.timelines), True: in_lines(journal.timelines, largest=max_event)
        }  # fmt: skip
        """How events are carried to clients, by whether they asked for lines."""
        self._in_lines: WeakSet[ServerConnection] = WeakSet()
        self._shares: WeakKeyDictionary[ServerConnection, Share] = WeakKeyDictionary()
        self._partitioner = Partitioner()
        self._in_partitions = in_partitions(journal.timelines, largest=max_event)
        self._passed: WeakKeyDictionary[ServerConnection, Pass] = WeakKeyDictionary()
        self._readers: set[StreamClient] = set()
        self._page_at: int = 0
        self._streams: Counter[str] = Counter()
        """How many each identity has open."""
        self.clients = 0

    @property
    def lag(self) -> int:
        """How many entries the slowest client lags behind the end of the journal."""
        return self._tail.newest - min([one.number for one in self._readers], default=self._tail.newest)

    async def start(self, host: str, port: int, *, http_port: int) -> int:
        """Listen, and return the port. Raises ``PortTaken`` if it is in use. The page publishes to ``http_port``."""
        socket = listening_socket(host, port)
        socket.setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)  # accepted connections inherit it
        self._page_at = http_port
        admission = Admission(budget=0, seats=seats_within(self._most_clients + MORE_SEATS), reserve=0)
        self._server = await serve(
            self._serve,
            sock=socket,
            process_request=self._before,
            process_response=self._after,
            select_subprotocol=subprotocol,
            compression=None,
            max_size=4_096,  # clients send only small reports
            ping_interval=20.0,
            ping_timeout=self._ping_timeout,
            write_limit=WRITE_LIMIT,
            server_header=None,
            create_connection=cast(
                "type[ServerConnection]", partial(BoundedConnection, admission=admission, tls=self._gate.handshakes)
            ),
        )
        return int(socket.getsockname()[1])

    async def stop(self) -> None:
        """Close all connections with 1001 (going away)."""
        if self._gate.handshakes is not None:
            self._gate.handshakes.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def _before(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer any request that is not a WebSocket handshake, or that is refused."""
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            called = self._gate.admit(asked(connection, request, right=None))
            return refused(connection, called) if isinstance(called, Refusal) else self._shown(request)
        wanted = asked(connection, request, right=self._right)
        passed = self._gate.admit(wanted)
        if isinstance(passed, Refusal):
            return refused(connection, passed)
        if why := self._too_many(passed.identity):
            refusal = too_many(why, STREAM_SECONDS)
            self._gate.refused(wanted, refusal)
            return refused(connection, refusal)
        self._passed[connection] = passed
        if self.clients >= self._most_clients:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    def _too_many(self, identity: Identity | None) -> str:
        """Why this identity may not open one more stream; empty if it may."""
        name = "" if identity is None else identity.name
        quota = self._gate.quota_of(identity)
        if quota.may_open(self._streams[name]):
            return ""
        return f"{name} has {quota.limits.streams:,} streams open already, which is its limit"

    def _shown(self, request: Request) -> Response:
        body = self._page.publishing_to(self._page_at)
        headers = Headers({"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))})
        hostname = urlsplit(f"//{request.headers.get('Host', '')}").hostname or "127.0.0.1"
        headers["Content-Security-Policy"] = self._page.policy(f"{hostname}:{self._page_at}")
        headers["Connection"] = "close"
        return Response(200, "OK", headers, body)

    def recheck(self) -> None:
        """The tokens have changed: end the streams of those that may read no more."""
        for reader in self._readers:
            if not self._gate.may_go_on(self._passed[reader.connection], self._right):
                reader.end(*REVOKED)

    async def _after(self, connection: ServerConnection, request: Request, response: Response) -> Response | None:
        """Decide where this stream starts, and put it into the response's headers."""
        if response.status_code != http.HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        try:
            bounds = await asyncio.to_thread(self._journal.bounds)
        except JournalError as error:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")
        query = parse_qs(urlsplit(request.path).query, keep_blank_values=True)
        after = query.get("after", [None])[0]
        share = None
        if (asked_for := query.get(PARTITIONS)) is not None and (share := share_of(asked_for[0])) is None:
            why = f"partitions are numbers below their count, at most {MOST}, as in partitions=3,17/64\n"
            return connection.respond(http.HTTPStatus.BAD_REQUEST, why)
        timelines = self._journal.timelines
        start = Start(self._tail.newest, is_known=True) if after is None else timelines.start_after(after, bounds)
        if not start.is_known:
            printable = "".join(char for char in after or "" if char.isascii() and char.isprintable())
            response.headers["unlost-gap"] = printable[:LONGEST_CURSOR]
        response.headers["unlost-cursor"] = timelines.cursor(start.number)
        response.headers["unlost-oldest"] = timelines.cursor(bounds[0])
        response.headers["unlost-max-event"] = str(self._max_event)
        if share is not None:
            response.headers[FORMAT] = PARTITIONS
            self._shares[connection] = share
        elif LINES in request.headers.get_all(ACCEPT):
            response.headers[FORMAT] = LINES
            self._in_lines.add(connection)
        self._starts[connection] = start.number
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self.clients += 1
        reader = self._client_of(connection)
        passed = self._passed[connection]
        name = passed.identity.name if passed.identity else ""
        if not self._gate.may_go_on(passed, self._right):  # revoked during the handshake
            reader.end(*REVOKED)
        elif why := self._too_many(passed.identity):  # others were opened during the handshake
            reader.end(CloseCode.TRY_AGAIN_LATER, why[:100])
        self._streams[name] += 1
        grown = partial(self._send_new, reader)
        self._readers.add(reader)
        self._tail.subscribe(grown)
        listening = asyncio.create_task(self._receive_reports(connection), name="client's frames")
        listening.add_done_callback(lambda _: reader.wake.set())
        announcing = asyncio.create_task(self._announce(reader), name="client's progress")
        try:
            while not listening.done() and not reader.ended:
                if self._tail.newest > reader.number:
                    await self._send_next(reader)
                else:
                    await reader.rest()
            if reader.ended:
                await connection.close(*reader.ended)
        except ConnectionClosed:
            return
        except JournalError as error:
            await connection.close(CloseCode.TRY_AGAIN_LATER, str(error)[:100])
        finally:
            self.clients -= 1
            self._streams[name] -= 1
            if not self._streams[name]:
                del self._streams[name]
            self._tail.unsubscribe(grown)
            self._readers.discard(reader)
            listening.cancel()
            announcing.cancel()

    def _client_of(self, connection: ServerConnection) -> StreamClient:
        start, share = self._starts[connection], self._shares.get(connection)
        if share is None:
            return StreamClient(connection, start, self._carries[connection in self._in_lines])
        return StreamClient(connection, start, self._in_partitions, partial(self._partitioner.pick, share))

    async def _announce(self, reader: StreamClient) -> None:
        """Send a client of some partitions how far the stream has gone, while it is sent nothing else."""
        while reader.pick is not None:
            await asyncio.sleep(ANNOUNCE_SECONDS)
            if reader.lacks_progress and reader.is_ready:
                reader.announce(upto(self._journal.timelines, reader.number))

    async def _receive_reports(self, connection: ServerConnection) -> None:
        """Read the client's reports. Reading also lets the library handle pongs and close frames."""
        try:
            async for message in connection:
                report = report_of(message)
                if report is None:
                    continue
                if not self._may_report(connection, report.group):
                    await connection.close(CloseCode.POLICY_VIOLATION, may_not_report(report.group))
                    return
                self._reported(report)
        except ConnectionClosed:
            return
        except TooManyGroups as refusal:
            await connection.close(CloseCode.TRY_AGAIN_LATER, str(refusal))

    def _may_report(self, connection: ServerConnection, group: str) -> bool:
        """Whether it may now: rights may have changed since the handshake."""
        identity = self._gate.now(self._passed[connection])
        return identity is not None and identity.may_report(group)

    @property
    def _chunk_bytes(self) -> int:
        return min(CHUNK_BYTES, ALL_CHUNKS_BYTES // max(1, self.clients))

    def _send_new(self, reader: StreamClient) -> None:
        """Send new events directly if the client has everything before them and has room. Otherwise wake its task."""
        if reader.is_ready:
            bodies = self._tail.after(reader.number, CHUNK, self._chunk_bytes)
            if bodies:
                self._sent(reader.write(bodies))
        if not reader.rests or self._tail.newest > reader.number:
            reader.wake.set()

    async def _send_next(self, reader: StreamClient) -> None:
        connection, number = reader.connection, reader.number
        bodies = self._tail.after(number, CHUNK, self._chunk_bytes)
        if bodies is None:
            bodies = within(await self._backlog.after(number), self._chunk_bytes)
            if reader.ended:
                return
            if not bodies:
                await connection.close(CloseCode.SERVICE_RESTART, "retention has removed what comes next")
                reader.number = self._tail.newest
                return
        async with connection.send_context():  # one write and one wait for many events
            self._sent(reader.write(bodies))
            del bodies  # a client that waits long should not keep them in memory

    def _read(self, number: int) -> list[bytes]:
        """Read bodies from the journal. An empty list if retention has removed the next entry."""
        entries = self._journal.read(number, CHUNK, CHUNK_BYTES)
        if not entries or entries[0].number != number + 1:
            return []
        damaged = damaged_of(entries)
        self._damage.meet(damaged)
        numbers = {entry.number for entry in damaged}
        # A damaged entry keeps its place in the count, but sends no bytes.
        return [b"" if one.number in numbers else one.body for one in entries]
