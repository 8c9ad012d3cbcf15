"""A FastStream application on a Redis stream: one call for each batch, acknowledged after the commit.

It promises what the primary key promises. Entries of a worker that died stay pending, until somebody claims them.

    python -m unlost.ops.bench.rivals.redis_streams REDIS_URL DATABASE_URL NAME
"""

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg
import uvloop
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import BatchStreamMessage, RedisBatchStreamMessage

from unlost.ops.bench.rivals.rows import BATCH, begin_when_asked, insert

STREAM, GROUP, BODY = "bench", "workers", b"body"
Parse: TypeAlias = Callable[[BatchStreamMessage], Awaitable[RedisBatchStreamMessage]]


async def parse(message: BatchStreamMessage, parse: Parse) -> RedisBatchStreamMessage:
    """Let the library make a message of the batch, but not decode and encode each body, which costs 20 µs."""
    parsed = await parse({**message, "data": []})
    parsed.raw_message = message
    return parsed


async def decode(message: RedisBatchStreamMessage) -> list[bytes]:
    """Return the bodies as they are: the handler decodes what it needs."""
    return [fields[BODY] for fields in message.raw_message["data"]]


async def work(redis_url: str, database_url: str, name: str) -> None:
    """Store what the stream has for this consumer, until killed."""
    connection = await asyncpg.connect(database_url)
    broker = RedisBroker(redis_url, apply_types=False, log_level=logging.DEBUG)
    source = StreamSub(STREAM, group=GROUP, consumer=name, batch=True, max_records=BATCH)

    @broker.subscriber(stream=source, parser=parse, decoder=decode)
    async def store(messages: list[bytes]) -> None:
        await insert(connection, messages)

    begin_when_asked()
    await FastStream(broker).run(log_level=logging.DEBUG)


if __name__ == "__main__":
    uvloop.run(work(*sys.argv[1:]))
