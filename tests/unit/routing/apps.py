"""Applications for the tests of this folder, and a way to run one attempt."""

import asyncio
from typing import Any

from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.handlers import attempt
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.router import Router


def flight(payload: bytes | str = b"1", event_type: str | None = None) -> InFlight:
    data = payload.encode() if isinstance(payload, str) else payload
    kind = b"" if event_type is None else b'"type": "%s", ' % event_type.encode()
    frame = b'{"event_id": "e", %s"payload": %s}' % (kind, data)
    return flight_of(parse(frame, max_bytes=10_000), frame, None, 0.0, 0.0)


async def opened(app: Router) -> AppHandler:
    handler = AppHandler("shop:app", app)
    await handler.open()
    return handler


async def run(handler: AppHandler, one: InFlight, connection: Any = None) -> str:
    """Run one attempt as the pipeline does; return its form."""
    form, call, arguments = handler.prepare(one, 1)
    await attempt(call(*arguments) if form != "transaction" else call(*arguments, connection), timeout=10)
    return form


async def run_app(app: Router, one: InFlight, connection: Any = None) -> str:
    handler = await opened(app)
    try:
        async with asyncio.timeout(10):
            return await run(handler, one, connection)
    finally:
        await handler.close()
