"""Connections with faults: a fault proxy in front of a server, controlled with toxiproxy-python."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

from toxiproxy import Toxiproxy
from toxiproxy.proxy import Proxy

_numbers = itertools.count(1)


class ToxicWire:
    """One proxy between a listener and a server. The client's calls block, so they run in a thread."""

    def __init__(self, proxy: Proxy, url: str) -> None:
        self._proxy = proxy
        parts = urlsplit(url)
        before, at, _ = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=f"{before}{at}{proxy.listen}"))

    async def refuse(self) -> None:
        await asyncio.to_thread(self._proxy.disable)

    async def add(self, kind: str, *streams: str, **attributes: int) -> None:
        """Add a toxic to these streams, by default to the data that flows towards the listener."""
        for stream in streams or ("downstream",):
            await asyncio.to_thread(self._proxy.add_toxic, type=kind, stream=stream, attributes=attributes)

    async def heal(self) -> None:
        """Remove all toxics and accept connections."""
        for name in await asyncio.to_thread(self._proxy.toxics):
            await asyncio.to_thread(self._proxy.destroy_toxic, name)
        await asyncio.to_thread(self._proxy.enable)


@contextlib.asynccontextmanager
async def toxic_wire(client: Toxiproxy, url: str) -> AsyncIterator[ToxicWire]:
    """A new proxy that leads to the server at this address."""
    parts = urlsplit(url)
    proxy = await asyncio.to_thread(
        client.create, upstream=f"{parts.hostname}:{parts.port}", name=f"{parts.scheme}-{next(_numbers)}"
    )
    try:
        yield ToxicWire(proxy, url)
    finally:
        await asyncio.to_thread(proxy.destroy)
