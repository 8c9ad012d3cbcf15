"""A worker on a JetStream queue that pushes: it takes what waits, inserts it, and acknowledges after the commit.

It promises what the primary key and the queue's redelivery promise. It has no handler, no takeover before the queue's
time-out, and no dead letter.

    python -m unlost.ops.bench.rivals.nats_queue NATS_URL DATABASE_URL
"""

import asyncio
import sys

import asyncpg
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from unlost.ops.bench.rivals.rows import BATCH, begin_when_asked, insert

SUBJECT = STREAM = "bench"
QUEUE = "workers"
UNDER_WAY = 8_192
PENDING_BYTES = 256 * 1024 * 1024
CONSUMER = ConsumerConfig(
    durable_name=QUEUE,
    deliver_group=QUEUE,
    deliver_subject=f"{QUEUE}.deliver",
    ack_policy=AckPolicy.EXPLICIT,
    max_ack_pending=UNDER_WAY,
)


async def work(nats_url: str, database_url: str) -> None:
    """Store what the queue sends, until killed."""
    waiting: asyncio.Queue[Msg] = asyncio.Queue()
    connection = await asyncpg.connect(database_url)
    client = await nats.connect(nats_url)
    begin_when_asked()
    await client.jetstream().subscribe(
        SUBJECT, queue=QUEUE, cb=waiting.put, manual_ack=True,
        pending_msgs_limit=2 * UNDER_WAY, pending_bytes_limit=PENDING_BYTES,
    )  # fmt: skip
    while True:
        batch = [await waiting.get()]
        while len(batch) < BATCH and not waiting.empty():
            batch.append(waiting.get_nowait())
        await insert(connection, [one.data for one in batch])
        for one in batch:
            await one.ack()


if __name__ == "__main__":
    uvloop.run(work(*sys.argv[1:]))
