"""A second group of listeners with the same producer and database, but its own ports, files and runs."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from unlost.listener.store.postgres.reports import Reports
from unlost.ops.faults.drills import records
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout
from unlost.ops.system.system import System

GROUP = "EU"
SAME_WITHIN = 30.0
LOOK_EVERY = 0.25


@contextmanager
def second_group(system: System) -> Iterator[Layout]:
    """Run the second group's listeners within the block."""
    first = system.layout
    data = first.data / "second"
    data.mkdir()
    extra = {**first.extra, "group": GROUP, "DRILL_RUNS": str(data / "runs")}
    layout = replace(first.with_listeners(len(first.listener_names)), data=data, extra=extra)
    children: list[Child] = layout.listeners(system.database_url, system.redis_url)
    try:
        for child in children:
            child.start()
        yield layout
    finally:
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()


async def different_rows(database_url: str) -> list[str]:
    """Wait until both groups have rows for the same events; return a sentence if they do not in time."""
    connection = await records.connected(database_url)
    try:
        deadline = time.monotonic() + SAME_WITHIN
        first, second = Reports(connection), Reports(connection, GROUP)
        while lacking := await first.ids() ^ await second.ids():
            if time.monotonic() > deadline:
                return [f"{len(lacking)} events are rows of one group only"]
            await asyncio.sleep(LOOK_EVERY)
        return []
    finally:
        connection.terminate()
