"""A fault proxy: a port that forwards to a server, the connections through it, and their toxics.

A disabled proxy refuses connections. It does not listen, but keeps its port reserved, so that no other process can
take the port meanwhile.
"""

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections.abc import Callable

from unlost.ops.faults.toxics.link import ToxicLink
from unlost.ops.faults.toxics.toxic import Stream, Toxic, ToxicError
from unlost.ops.kit.telemetry.http import listening_socket

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10.0
LINGER_ZERO = struct.pack("ii", 1, 0)  # SO_LINGER with 0 seconds: closing sends RST
_port = re.compile("[0-9]{1,5}")


class Proxy:
    """One proxy. ``listen`` and ``upstream`` are ``host:port``; port 0 is replaced by the port that was assigned."""

    def __init__(self, name: str, listen: str, upstream: str, rng: Callable[[], float] = random.random) -> None:
        self.name = name
        self.listen = listen
        self.upstream = upstream
        self.toxics: dict[str, Toxic] = {}
        self._rng = rng
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], _Connection | None] = {}

    @property
    def enabled(self) -> bool:
        """Whether it accepts connections."""
        return self._server is not None

    async def enable(self) -> None:
        """Start to listen."""
        if self._server is not None:
            return
        host, port = address(self.listen)
        self._release()
        listening = listening_socket(host, port)
        self.listen = _written(host, listening.getsockname()[1])
        self._server = await asyncio.start_server(self._serve, sock=listening)

    async def disable(self) -> None:
        """Cut all connections and refuse new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self._reserve()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def move(self, listen: str, upstream: str) -> None:
        """Change its addresses. Connections are cut, and the proxy is disabled afterwards."""
        await self.disable()
        if listen != self.listen:
            self._release()
        self.listen, self.upstream = listen, upstream

    async def close(self) -> None:
        """Disable it for good and release the port."""
        await self.disable()
        self._release()

    # -- toxics ---------------------------------------------------------------------------------

    def add(self, toxic: Toxic) -> None:
        """Add a toxic to all present and future connections."""
        if toxic.name in self.toxics:
            raise ToxicError(409, "toxic already exists")
        self.toxics[toxic.name] = toxic
        self._apply()

    def toxic(self, name: str) -> Toxic:
        """Return the toxic with this name."""
        try:
            return self.toxics[name]
        except KeyError:
            raise ToxicError(404, "toxic not found") from None

    def replace(self, toxic: Toxic) -> None:
        """Replace the toxic with this name; its position among the others stays."""
        self.toxics[toxic.name] = toxic
        self._apply()

    def remove(self, name: str) -> None:
        """Remove a toxic."""
        del self.toxics[self.toxic(name).name]
        self._apply()

    def heal(self) -> None:
        """Remove all toxics."""
        self.toxics.clear()
        self._apply()

    def _apply(self) -> None:
        for connection in self._connections.values():
            if connection is not None:
                connection.set_toxics(self.toxics)

    # -- connections ----------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = None
        other: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                other_reader, other = await asyncio.open_connection(*address(self.upstream))
            connection = _Connection((reader, writer), (other_reader, other), self._rng)
            connection.set_toxics(self.toxics)
            self._connections[task] = connection
            await connection.run()
        except (OSError, TimeoutError):
            pass  # the server behind the proxy does not answer: the client's connection is closed
        except asyncio.CancelledError:
            pass  # the connection was cut; this task ends here, and nothing awaits its result
        finally:
            del self._connections[task]
            for end in (writer, other):
                if end is not None:
                    end.transport.abort()

    # -- the port -------------------------------------------------------------------------------

    def _reserve(self) -> None:
        """Bind the port without listening: connections are refused, and no other process can take the port."""
        host, port = address(self.listen)
        reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            reserved.bind((host, port))
        except OSError:
            reserved.close()
            return
        self._reserved = reserved

    def _release(self) -> None:
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None


class _Connection:
    """A client, the server behind the proxy, and a link in each direction."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        rng: Callable[[], float],
    ) -> None:
        self._writers = (client[1], server[1])
        self._links: dict[Stream, ToxicLink] = {
            "upstream": ToxicLink(client[0], server[1], reset=self._reset, rng=rng),
            "downstream": ToxicLink(server[0], client[1], reset=self._reset, rng=rng),
        }

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for link in self._links.values():
                tasks.create_task(link.run())

    def set_toxics(self, toxics: dict[str, Toxic]) -> None:
        for stream, link in self._links.items():
            link.set_toxics([toxic for toxic in toxics.values() if toxic.stream == stream])

    def _reset(self) -> None:
        """Reset both sides with RST."""
        for writer in self._writers:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
            writer.transport.abort()
        for link in self._links.values():
            link.end()


def address(text: str) -> tuple[str, int]:
    """Split ``host:port``; the default host is loopback."""
    host, colon, port = text.rpartition(":")
    if not colon or not _port.fullmatch(port) or int(port) > 65535:
        raise ToxicError(400, f"bad request body: {text!r} is no address; write host:port")
    return host.strip("[]") or LOOPBACK, int(port)


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
