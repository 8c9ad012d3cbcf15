"""A session of an acknowledged source, used as a reader uses it."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from tests.support.brokers import Broker
from unlost.listener.ports.source import Batch, Session

SECONDS = 15


def events(count: int, first: int = 0) -> list[bytes]:
    return [b'{"event_id":"e%d","payload":%d}' % (n, n) for n in range(first, first + count)]


async def none() -> str | None:
    return None


async def taken(session: Session, count: int) -> list[Batch]:
    """Take until so many messages have come."""
    batches: list[Batch] = []
    async with asyncio.timeout(SECONDS):
        while sum(len(one.bodies) for one in batches) < count:
            batch = await session.take(100, 100_000)
            assert isinstance(batch, Batch)
            assert sum(length for length, _ in batch.receipts) == len(batch.bodies) == len(batch.cursors)
            batches.append(batch)
    return batches


def bodies(batches: list[Batch]) -> list[bytes]:
    return [body for batch in batches for body in batch.bodies]


def receipts(batches: list[Batch]) -> list[Any]:
    return [receipt for batch in batches for _, receipt in batch.receipts]


async def opened(stack: AsyncExitStack, broker: Broker) -> Session:
    """Open a session as a reader does."""
    session = await stack.enter_async_context(broker.source().open(none))
    beside = asyncio.create_task(session.run(lambda: False))
    stack.callback(beside.cancel)
    return session


async def until_acknowledged(broker: Broker, left: int) -> None:
    async with asyncio.timeout(SECONDS):
        while await broker.unacknowledged() != left:  # noqa: ASYNC110  brokers announce nothing
            await asyncio.sleep(0.05)
