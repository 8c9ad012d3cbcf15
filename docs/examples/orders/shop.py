"""Orders take from a stock. Run it: HANDLER=shop:app unlost up"""

from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx
import msgspec

from unlost import App, Backoff, Delivery, Reject, Transaction

app = App()


class Order(msgspec.Struct):
    sku: str
    count: int


class Mails(Protocol):
    async def send(self, to: str, text: str, key: str) -> None: ...


class HttpMails:
    """Mails by HTTP. The key lets the receiver recognise a mail that is sent once more."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def send(self, to: str, text: str, key: str) -> None:
        answer = await self._client.post("/mails", json={"to": to, "text": text}, headers={"Idempotency-Key": key})
        answer.raise_for_status()


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    async with httpx.AsyncClient(base_url="http://mails.internal", timeout=10) as client:
        yield {"mails": HttpMails(client)}


@app.on("order.created")
async def reserve(order: Order, tx: Transaction) -> None:
    """The stock and the row are committed together, so each order is taken from the stock exactly once."""
    left = await tx.fetchval("select count from stock where sku = $1 for update", order.sku)
    if left is None or left < order.count:
        raise Reject(f"{order.sku} is sold out")
    await tx.execute("update stock set count = count - $2 where sku = $1", order.sku, order.count)


@app.on("order.shipped", retry=Backoff(attempts=8, first=1, longest=600), timeout=20, concurrency=4)
async def tell_the_customer(payload: dict[str, Any], event: Delivery, mails: Mails) -> None:
    """A mail is sent at least once; its key is the id of the event."""
    await mails.send(payload["customer"], f"{payload['sku']} is on its way", event.event_id)
