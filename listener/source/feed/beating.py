"""Heartbeats of a feed's own protocol, and the watch for its silence."""

import asyncio
from collections.abc import Callable

from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.feed.connection import FeedConnection
from unlost.listener.source.feed.hook import Feed
from unlost.listener.source.feed.losses import failed_code

LEAST_BEAT = 0.05


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
