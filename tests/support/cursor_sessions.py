"""Sessions of brokers that each listener reads whole, from a cursor of the group."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from tests.support.brokers import GROUP
from tests.support.cursors import FakeCursors
from unlost.listener.ports.source import Batch, Session, Source

SECONDS = 30


class WithCursors(Protocol):
    """A broker whose group keeps its cursor."""

    cursors: FakeCursors


async def taken(session: Session, count: int) -> Batch:
    """Take so many messages or more."""
    bodies: list[bytes] = []
    cursors: list[str | None] = []
    async with asyncio.timeout(SECONDS):
        while len(bodies) < count:
            batch = await session.take(100, 100_000)
            assert isinstance(batch, Batch)
            assert not batch.receipts
            bodies += batch.bodies
            cursors += batch.cursors
    return Batch(bodies, cursors)


def cursor_of(broker: WithCursors, source: Source) -> Callable[[], Awaitable[str | None]]:
    """Return a function that reads the cursor of the group."""
    return lambda: broker.cursors.read(source.name, GROUP)
