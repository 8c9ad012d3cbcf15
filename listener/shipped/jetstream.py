"""Each event as a message in NATS JetStream, beside its row: ``HANDLER=unlost.jetstream:app``.

The message is stored by the stream before the row is inserted. It has the event's id as ``Nats-Msg-Id``, so within its
window for duplicates the stream drops what a second run publishes. Every row has its message.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field

from unlost.listener.app.embedding import App
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured, Reject
from unlost.listener.shipped.envelope import text_of
from unlost.ops.kit.command import SecretUrl, Settings, UsageProblem

try:
    from nats.aio.client import Client
    from nats.errors import MaxPayloadError

    from unlost.listener.source.brokers.address import BrokerAddress, read_address
    from unlost.listener.source.brokers.jetstream_session import ID_HEADER
except ImportError as error:
    raise Misconfigured('unlost.jetstream needs the package nats-py: pip install "unlost[nats]"') from error

LONGEST_CALL = 10.0
OPTIONS = ("creds",)
app = App()


class JetStreamSettings(Settings):
    """Where messages are published."""

    jetstream_publish_url: SecretUrl = Field(
        SecretUrl("nats://127.0.0.1:4222/events"), description="NATS, with the subject that gets each event"
    )


class Subject:
    """Publishes to one subject. Connects when it is first needed, so a server that is away prevents no start."""

    def __init__(self, address: BrokerAddress) -> None:
        self._address = address
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def publish(self, event: Delivery) -> None:
        """Publish one event; return once the stream has it."""
        async with asyncio.timeout(LONGEST_CALL):
            client = await self._connected()
            stream = client.jetstream(timeout=LONGEST_CALL)
            await stream.publish(self._address.path, text_of(event), headers={ID_HEADER: event.event_id})

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                client = Client()
                await client.connect(
                    self._address.servers, name="unlost", allow_reconnect=False, max_reconnect_attempts=1,
                    reconnect_time_wait=0, connect_timeout=2, error_cb=_ignore,
                    user_credentials=self._address.options.get("creds"),
                )  # fmt: skip
                self._client = client
            return self._client


async def _ignore(error: Exception) -> None:
    """Leave an error to the call that it ends: the library would log it, too."""


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    """Read the settings."""
    try:
        url = JetStreamSettings.load({}).jetstream_publish_url.reveal()
    except UsageProblem as error:
        raise Misconfigured(*error.problems) from error
    subject = Subject(read_address(url, what="SUBJECT", port=4222, options=OPTIONS, setting="JETSTREAM_PUBLISH_URL"))
    try:
        yield {"subject": subject}
    finally:
        await subject.close()


@app.otherwise
async def publish(event: Delivery, subject: Subject) -> None:
    """Publish the message of one event."""
    if not event.event_id.isprintable():
        raise Reject("JetStream takes no id with control characters")
    try:
        await subject.publish(event)
    except MaxPayloadError as error:
        raise Reject(f"NATS cannot take this event: {error}") from error
