"""Heartbeats of a feed's own protocol, the watch for its silence, and the end of connections that are dead."""

import asyncio
from collections.abc import Callable

from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.feed.connection import FeedConnection
from unlost.listener.source.feed.hook import Feed
from unlost.listener.source.feed.losses import failed_code

LEAST_BEAT = 0.05
PATIENCE = 5.0
"""How many seconds later than announced a message may arrive."""


async def beat(connection: FeedConnection, feed: Feed, every: float) -> None:
    """Send heartbeats until the connection ends. If the feed's code fails, the connection is ended."""
    try:
        while True:
            await asyncio.sleep(max(every, LEAST_BEAT))
            if (send := feed.beat()) is not None:
                await connection.send(send.text)
    except SourceEnded:
        pass
    except Exception as error:  # noqa: BLE001 - a feed may be a user's own code
        connection.ended_by = failed_code("beat", error).loss
        connection.link.abort()


async def end_if_silent(connection: FeedConnection, within: float) -> None:
    """End a connection on which nothing arrives for so long, and ``PATIENCE``."""
    clock = asyncio.get_running_loop().time
    try:
        silent = 0.0
        while silent < within + PATIENCE:
            await asyncio.sleep(max(LEAST_BEAT, within + PATIENCE - silent))
            silent = connection.signs.silent_for(clock())
        connection.ended_by = Loss(f"the feed was silent for {silent:.1f} s: it sends something each {within:g} s")
    except Exception as error:  # noqa: BLE001 - a feed may be a user's own code
        connection.ended_by = failed_code("keepalive", error).loss
    connection.link.abort()


async def watch(
    fresh: float, heard_at: Callable[[], float], is_idle: Callable[[], bool], silent_for: Callable[[float], None]
) -> None:
    """Report once how long a feed has been silent, if that is longer than ``fresh`` and it should be read."""
    clock = asyncio.get_running_loop().time
    declared: float | None = None
    while True:
        await asyncio.sleep(max(fresh / 4, heard_at() + fresh - clock()))
        if is_idle() or clock() - heard_at() < fresh or declared == heard_at():
            continue
        declared = heard_at()
        silent_for(clock() - declared)
