"""Handlers that record their runs, and hold some of them until the test releases them."""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakSet

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject
from unlost.listener.store.postgres.connections import Connection


class Watcher(Protocol):
    def wake(self) -> None: ...


@dataclass
class Runs:
    """The runs in this process. Call ``forget`` before each test."""

    begun: list[str] = field(default_factory=list)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: "WeakSet[Watcher]" = field(default_factory=WeakSet)

    def begin(self, event_id: str) -> None:
        """A handler has begun. No fact reports this, and a test may wait for it."""
        self.begun.append(event_id)
        for watcher in list(self.watchers):
            watcher.wake()

    def forget(self) -> None:
        self.begun.clear()
        self.go_on = asyncio.Event()


RUNS = Runs()
HOLD = f"{__name__}:hold"


async def hold(event: Delivery) -> None:
    """Events whose id begins with ``held`` wait for ``RUNS.go_on``."""
    RUNS.begin(event.event_id)
    if event.event_id.startswith("held"):
        await RUNS.go_on.wait()


NEEDS = f"{__name__}:needs"


async def needs(event: Delivery) -> None:
    """Fails until ``RUNS.go_on``, as with a dependency that is away; ``poison`` fails always, ``refused`` for good.

    ``fine`` needs no dependency.
    """
    RUNS.begin(event.event_id)
    if event.event_id.startswith("fine"):
        return
    if event.event_id.startswith("refused"):
        raise Reject("never")
    if event.event_id.startswith("poison") or not RUNS.go_on.is_set():
        raise ConnectionError("the dependency is away")


HERE: ContextVar[str] = ContextVar("HERE", default="")
"""The listener in whose tasks a handler runs. Set while a test starts it."""
NEEDS_B = f"{__name__}:needs_b"


async def needs_b(event: Delivery) -> None:
    """Fails except in listener ``b``, as if only that one could reach the dependency. There it waits for ``go_on``."""
    RUNS.begin(event.event_id)
    if HERE.get() != "b":
        raise ConnectionError("the dependency is away from here")
    await RUNS.go_on.wait()


HOLD_IN_TRANSACTION = f"{__name__}:hold_in_transaction"


async def hold_in_transaction(event: Delivery, connection: Connection) -> None:
    """Like ``hold``, with an effect on the connection."""
    await connection.execute("insert into effects values ($1)", event.event_id)
    await hold(event)


async def starts_what_exits(event: Delivery) -> None:
    """A task of the user's calls ``sys.exit``. Nobody awaits it, except for event ``awaited``."""

    async def leave() -> None:
        raise SystemExit(3)

    task = asyncio.get_running_loop().create_task(leave())
    await (task if event.event_id == "awaited" else asyncio.sleep(0.01))
