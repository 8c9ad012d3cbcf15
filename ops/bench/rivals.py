"""A worker as an expert writes it by hand for throughput: a queue, batches, one insert for many rows.

It takes what waits in a JetStream queue, up to 512 messages, inserts them with ``unnest`` and ``ON CONFLICT DO
NOTHING``, and acknowledges after the commit. It promises what the primary key and the queue's redelivery promise, and
has no handler, no takeover before the queue's time-out, and no dead letter.

    python -m unlost.ops.bench.rivals NATS_URL DATABASE_URL
"""

import asyncio
import sys
import time

import asyncpg
import msgspec
import nats
import uvloop
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

SUBJECT = "bench"
STREAM = "bench"
QUEUE = "workers"
BATCH = 512
UNDER_WAY = 8_192
PENDING_BYTES = 256 * 1024 * 1024
CONSUMER = ConsumerConfig(
    durable_name=QUEUE,
    deliver_group=QUEUE,
    deliver_subject=f"{QUEUE}.deliver",
    ack_policy=AckPolicy.EXPLICIT,
    max_ack_pending=UNDER_WAY,
)
INSERT = """insert into loop_events (event_id, type, payload, received_at)
    select i, t, p::jsonb, to_timestamp($4) from unnest($1::text[], $2::text[], $3::text[]) as e (i, t, p)
    on conflict do nothing"""


class Envelope(msgspec.Struct):
    """The envelope; the payload stays text."""

    event_id: str
    payload: msgspec.Raw
    type: str | None = None


async def work(nats_url: str, database_url: str) -> None:
    """Store what the queue sends, until killed."""
    decode = msgspec.json.Decoder(Envelope).decode
    waiting: asyncio.Queue[Msg] = asyncio.Queue()
    connection = await asyncpg.connect(database_url)
    client = await nats.connect(nats_url)
    await client.jetstream().subscribe(
        SUBJECT, queue=QUEUE, cb=waiting.put, manual_ack=True,
        pending_msgs_limit=2 * UNDER_WAY, pending_bytes_limit=PENDING_BYTES,
    )  # fmt: skip
    while True:
        batch = [await waiting.get()]
        received = time.time()
        while len(batch) < BATCH and not waiting.empty():
            batch.append(waiting.get_nowait())
        events = [decode(one.data) for one in batch]
        await connection.execute(
            INSERT,
            [one.event_id for one in events],
            [one.type for one in events],
            [bytes(one.payload).decode() for one in events],
            received,
        )
        for one in batch:
            await one.ack()


if __name__ == "__main__":
    uvloop.run(work(*sys.argv[1:]))
