"""The stream: each WebSocket client is a cursor over the journal.

A live client reads from the shared tail, one that lags from the journal; a slow one waits in its own task
for its own socket, costs no memory and harms nobody. The handshake tells where the stream starts:

    unlost-cursor   the cursor after which the first frame comes
    unlost-oldest   the cursor just before the oldest event that there is
    unlost-gap      the cursor that was asked for and is not known; the stream starts at the oldest
"""

import asyncio
import http
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ops.telemetry.http import listening_socket
from producer.journal.port import Journal, cursor_of, number_of
from producer.tail import Tail, frame_of

CHUNK = 512


class Stream:
    """Serves ``/`` and ``/?after=<cursor>``; a plain browser sees the page."""

    def __init__(
        self,
        journal: Journal,
        tail: Tail,
        *,
        page: bytes,
        origins: tuple[str, ...],
        most_clients: int,
        ping_timeout: float,
        sent: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._tail = tail
        self._page = page
        self._origins = origins
        self._most_clients = most_clients
        self._ping_timeout = ping_timeout
        self._sent = sent
        self._server: Server | None = None
        self._starts: dict[ServerConnection, int] = {}

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._starts)

    async def start(self, host: str, port: int) -> int:
        """Listen; the port. ``PortTaken`` where somebody else does."""
        socket = listening_socket(host, port)
        self._server = await serve(
            self._serve,
            sock=socket,
            process_request=self._before,
            process_response=self._after,
            compression=None,
            max_size=4_096,
            ping_interval=20.0,
            ping_timeout=self._ping_timeout,
            write_limit=256 * 1024,
            server_header=None,
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
            headers = Headers({"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(self._page))})
            return Response(200, "OK", headers, self._page)
        if not self._welcome(request):
            return connection.respond(http.HTTPStatus.FORBIDDEN, "pages of other sites may not read this stream\n")
        if len(self._starts) >= self._most_clients:
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many clients\n")
        return None

    def _welcome(self, request: Request) -> bool:
        """Only browsers send an origin; theirs must be ours, or one that was allowed."""
        origin = request.headers.get("Origin")
        if origin is None:
            return True
        host = urlsplit(origin).hostname
        ours = urlsplit(f"//{request.headers.get('Host', '')}").hostname
        return host == ours or origin in self._origins

    async def _after(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Decide where this stream starts, and say so."""
        bounds = await asyncio.to_thread(self._journal.bounds)
        asked = parse_qs(urlsplit(request.path).query).get("after", [None])[0]
        start: int | None = self._tail.newest
        if asked is not None:
            start = number_of(asked, self._journal.identity, bounds)
            if start is None:
                start = bounds[0]
                response.headers["unlost-gap"] = asked[:512].replace("\r", "").replace("\n", "")
        response.headers["unlost-cursor"] = cursor_of(self._journal.identity, start)  # type: ignore[arg-type]
        response.headers["unlost-oldest"] = cursor_of(self._journal.identity, bounds[0])
        self._starts[connection] = start  # type: ignore[assignment]

    async def _serve(self, connection: ServerConnection) -> None:
        number = self._starts[connection]
        listening = asyncio.create_task(self._ignore(connection), name="client's frames")
        try:
            while True:
                await self._wait(connection, number)
                number = await self._send_from(connection, number)
        except ConnectionClosed:
            return
        finally:
            listening.cancel()
            self._starts.pop(connection, None)

    async def _wait(self, connection: ServerConnection, number: int) -> None:
        if self._tail.newest > number:
            return
        growing = asyncio.create_task(self._tail.wait_beyond(number))
        closing = asyncio.create_task(connection.wait_closed())
        try:
            await asyncio.wait({growing, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            growing.cancel()
            closing.cancel()

    async def _send_from(self, connection: ServerConnection, number: int) -> int:
        """Send what comes next; the number that was reached."""
        frames = self._tail.after(number, CHUNK)
        if frames is not None:
            reached = number + len(frames)
        else:
            entries = await asyncio.to_thread(self._journal.read, number, CHUNK)
            frames = [frame_of(entry, self._journal.identity) for entry in entries]
            reached = entries[-1].number if entries else self._tail.newest
        for frame in frames:
            await connection.send(frame, text=True)
        if not frames:
            await connection.ping()  # a closed connection shows here, so that nobody spins on it
        self._sent(len(frames))
        return reached

    async def _ignore(self, connection: ServerConnection) -> None:
        """Clients have nothing to say; reading lets pongs and a close through."""
        try:
            async for _ in connection:
                continue
        except ConnectionClosed:
            return
