"""The user's code in a simulation: what each event's handler does stands in the schedule."""

import asyncio
from typing import Any

from tests.simulation.world import Process
from unlost.listener.core.delivery import Delivery


async def plain(delivery: Delivery) -> None:
    """Runs before the row is inserted."""
    await _run(delivery, None)


async def other(delivery: Delivery) -> None:
    """Does the same, and is another handler to the listeners."""
    await _run(delivery, None)


async def in_transaction(delivery: Delivery, connection: Any) -> None:
    """Runs in the row's transaction."""
    await _run(delivery, connection)


async def _run(delivery: Delivery, connection: Any) -> None:
    process = asyncio.get_running_loop()
    assert isinstance(process, Process)
    await process.handle(delivery, connection)
