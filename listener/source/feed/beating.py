"""Heartbeats of a feed's own protocol."""

import asyncio

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
