"""Handlers for the listeners of these tests."""

import asyncio

from unlost import Reject
from unlost.listener.core.delivery import Delivery


async def slowly(event: Delivery) -> None:
    """Take long enough that a listener is killed while it holds events; refuse one in fifty."""
    await asyncio.sleep(0.05)
    if event.payload % 50 == 49:
        raise Reject("one of those that nobody can take")
