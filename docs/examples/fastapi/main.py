"""A listener inside a FastAPI application. Run it: uvicorn main:api --port 8000

The listener's own endpoint, for health and metrics, is on port 3000 as always.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI, Request, Response

from unlost import App, Publisher, Transaction

app = App()


class Order(msgspec.Struct):
    sku: str
    count: int


@app.on("order.created")
async def reserve(order: Order, tx: Transaction) -> None:
    await tx.execute("update stock set count = count - $2 where sku = $1", order.sku, order.count)


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    async with app.running() as listener, Publisher(api.state.producer_url) as publisher:
        api.state.listener, api.state.publisher = listener, publisher
        yield  # leaving it drains the listener


api = FastAPI(lifespan=lifespan)
api.state.producer_url = "http://127.0.0.1:3005"


@api.post("/orders/{order_id}", status_code=202)
async def order(order_id: str, sku: str, count: int, request: Request) -> dict[str, str]:
    """202: the order is on the producer's disk, and will be handled once."""
    published = await request.app.state.publisher.publish(
        {"sku": sku, "count": count}, event_id=order_id, type="order.created"
    )
    return {"status": published.status}


@api.get("/ready")
async def ready(request: Request, response: Response) -> dict[str, object]:
    listener = request.app.state.listener
    if not listener.is_ready:
        response.status_code = 503
    answer: dict[str, object] = listener.health().ready()
    return answer
