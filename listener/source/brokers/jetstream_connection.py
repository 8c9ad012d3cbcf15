"""A connection to NATS for one session, and the stream that an address names.

The library never reconnects by itself, since a pull may stay dead after a server's restart. The reader opens another.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import nats
from nats.aio.client import Client
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.brokers.address import BrokerAddress
from unlost.listener.source.brokers.errors import leave, library_errors, within

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0


@contextlib.asynccontextmanager
async def connected(address: BrokerAddress, name: str, ended: Callable[[str], None]) -> AsyncIterator[Client]:
    """Connect, and close at the end. ``name``: what the server shows; ``ended`` is called once the connection ended."""
    client = Client()

    async def closed() -> None:
        ended("the connection to NATS ended")

    try:
        with library_errors(nats.errors.Error):
            async with within(OPEN_SECONDS, "connecting to NATS"):
                await _connect(client, address, name, closed)
        yield client
    finally:
        await leave(client.close, CLOSE_SECONDS)


async def _connect(client: Client, address: BrokerAddress, name: str, closed: Callable[[], Awaitable[None]]) -> None:
    async def ignore(error: Exception) -> None:  # the library would log it; the end is noticed anyway
        pass

    await client.connect(
        address.servers, name=f"unlost {name}", allow_reconnect=False, connect_timeout=2, ping_interval=10,
        max_outstanding_pings=2, error_cb=ignore, closed_cb=closed, disconnected_cb=closed,
        user_credentials=address.options.get("creds"),
    )  # fmt: skip


async def stream_of(client: Client, address: BrokerAddress) -> StreamInfo:
    """Return the state of the stream; ``SourceEnded`` if there is none of this name."""
    try:
        return await client.jsm().stream_info(address.path)
    except NotFoundError:
        raise SourceEnded(Loss(f"there is no stream {address.path} on {','.join(address.hosts)}")) from None
