"""Handlers that write down their runs, and hold some of them until they are let go."""

import asyncio
from dataclasses import dataclass, field

from listener.delivery import Delivery
from listener.store.database import Connection


@dataclass
class Runs:
    """What ran in this process. ``forget`` before each test."""

    begun: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def forget(self) -> None:
        self.begun.clear()
        self.go_on = asyncio.Event()


RUNS = Runs()
HOLD = f"{__name__}:hold"


async def hold(event: Delivery) -> None:
    """Events whose id begins with ``held`` wait for ``RUNS.go_on``."""
    RUNS.begun.append(event.event_id)
    if event.event_id.startswith("held"):
        await RUNS.go_on.wait()


HOLD_IN_TRANSACTION = f"{__name__}:hold_in_transaction"


async def hold_in_transaction(event: Delivery, connection: Connection) -> None:
    """As ``hold``, with an effect on the connection."""
    await connection.execute("insert into effects values ($1)", event.event_id)
    await hold(event)
