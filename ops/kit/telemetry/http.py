"""An HTTP server inside the running event loop, with limits, and without signal handlers of its own.

It binds its own socket, so a taken port is reported before anything else happens. Port 0 takes any free port.
"""

import asyncio
import contextlib
import errno
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast, overload

import uvicorn
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unlost.ops.kit.telemetry.admission import SEATS, Admission, seats_within
from unlost.ops.kit.telemetry.guarded import GuardedProtocol
from unlost.ops.kit.telemetry.handshakes import Handshakes, TlsFront

MAX_BODY = 16 * 1024 * 1024
MAX_HELD = 64 * 1024 * 1024
ACCEPTS = 16
"""Connections accepted in one turn of the event loop. In each turn, libuv accepts one per descriptor of the listening
socket. With a single descriptor, a probe that arrives after 500 other connections would wait for 500 turns."""
_digits = re.compile("[0-9]{1,20}")
Endpoint = Callable[[Request], Awaitable[Response]]


class PortTaken(Exception):
    """Another process listens on this port."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} is taken; stop what listens there, or choose another port")
        self.port = port


class _Server(uvicorn.Server):
    """Uvicorn's server, but it leaves signals to the process and reports when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()


class HttpServer:
    """Serves ``app`` until ``stop()``, which gives running requests ``grace`` seconds."""

    def __init__(
        self,
        app: ASGIApp,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        max_body: int | None = MAX_BODY,
        max_held: int = MAX_HELD,
        grace: int = 2,
        protocol: Callable[..., GuardedProtocol] = GuardedProtocol,
        tls: Handshakes | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._admission = Admission(budget=max_held, seats=seats_within(SEATS))
        self._tls = tls
        self._config = uvicorn.Config(
            QuietDisconnects(app if max_body is None else BodyLimit(app, max_body=max_body)),
            http=cast("type[asyncio.Protocol]", self._protocols(protocol)),  # a factory: uvicorn only calls it
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=grace,
        )
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    def _protocols(self, protocol: Callable[..., GuardedProtocol]) -> Callable[..., asyncio.Protocol]:
        """The factory that uvicorn calls for each new connection."""
        plain = partial(protocol, admission=self._admission)
        tls = self._tls
        return plain if tls is None else lambda **more: TlsFront(tls, partial(plain, **more))

    async def start(self) -> int:
        """Listen and return the port. Raises ``PortTaken``."""
        listening = listening_socket(self._host, self._port)
        bound: int = listening.getsockname()[1]
        self._server = server = _Server(self._config)
        sockets = [listening, *(listening.dup() for _ in range(ACCEPTS - 1))]
        self._task = asyncio.create_task(server.serve(sockets), name="http-server")
        self._watch = asyncio.create_task(self._admission.watch(), name="http-server's peers")
        up = asyncio.create_task(server.is_up.wait(), name="http-server-up")
        try:
            await asyncio.wait({self._task, up}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
        if self._task.done():
            await self._task
            raise RuntimeError(f"the HTTP server on port {bound} ended while it started")
        return bound

    async def stop(self) -> None:
        """Finish running requests and close the socket. Safe to call twice, or before ``start()``."""
        if self._server is None or self._task is None or self._watch is None:
            return
        self._server.should_exit = True
        if self._tls is not None:
            self._tls.close()
        await self._task
        self._watch.cancel()
        self._server = self._task = self._watch = None


def whole_path(path: str, endpoint: Endpoint, methods: Sequence[str] = ("GET",)) -> Route:
    """A route whose ``{name:path}`` matches any characters. Starlette's stops at a newline, which an id may contain."""
    route = Route(path, endpoint, methods=methods)
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)
    return route


@overload
def whole_number(request: Request, name: str, default: int, *, least: int, most: int) -> int: ...
@overload
def whole_number(request: Request, name: str, default: None = None, *, least: int, most: int) -> int | None: ...
def whole_number(request: Request, name: str, default: int | None = None, *, least: int, most: int) -> int | None:
    """A query parameter, or the default if it is missing. Anything but ASCII digits within the bounds gets a 400."""
    given = request.query_params.get(name)
    if given is None:
        return default
    if not _digits.fullmatch(given) or not least <= int(given) <= most:  # \d and int() would accept non-ASCII digits
        raise HTTPException(400, f"{name} is a whole number between {least:,} and {most:,}")
    return int(given)


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket, or ``PortTaken``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        # Listen here, not later: with SO_REUSEADDR two sockets may bind the same port, but only one may listen.
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port) from None
        raise
    return listening


class QuietDisconnects:
    """Ends a request quietly when its client has disconnected; uvicorn would log a traceback for each as our error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; there is nobody to answer if the client has gone."""
        with contextlib.suppress(ClientDisconnect):
            await self._app(scope, receive, send)


class BodyLimit:
    """Refuses a body that is too large (413) before the application has read it."""

    def __init__(self, app: ASGIApp, *, max_body: int) -> None:
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer in its place if the limit is exceeded."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _content_length(scope) > self._max_body:
            await _refuse(413, _too_large(self._max_body))(scope, receive, send)
        else:
            await self._app(scope, _counted(receive, self._max_body), send)


def _counted(receive: Receive, max_body: int) -> Receive:
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > max_body:
            raise HTTPException(413, _too_large(max_body))
        return message

    return counted


def _too_large(max_body: int) -> str:
    return f"the body exceeds {max_body:,} bytes"


def _refuse(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status, {"connection": "close"})


def _content_length(scope: Any) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
