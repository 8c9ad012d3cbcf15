"""Asks the server which ids it knows. It has no call for that.

A message with a header for rollups, which the stream does not allow, is refused after its id was looked up. So the
answer is the number of the message with that id, or the refusal. No other header that we tried does this. One server
alone compares an expected number before it looks up the id. A cluster that expects another last id keeps the new id as
if it were stored.
"""

import asyncio
from collections.abc import Mapping

from unlost.producer.journal.jetstream.connection import JetStreamConnection, PublishAck, RequestRefused
from unlost.producer.journal.jetstream.messages import GOES_ON, ID, StoredMessage, bucket_of, message_id
from unlost.producer.journal.jetstream.reading import EntryReader

NO_ROLLUPS = 10111


async def number_of(connection: JetStreamConnection, stream: str, key: bytes) -> int | None:
    """The number of the first entry with this id, if the server still knows it."""
    headers = {ID: message_id(key), "Nats-Rollup": "none"}
    try:
        ack = await connection.ask(f"{stream}.{GOES_ON}.{bucket_of(key)}", b"", PublishAck, headers)
    except RequestRefused as refused:
        if refused.code != NO_ROLLUPS:
            raise
        return None
    return ack.seq


async def known_of(
    connection: JetStreamConnection, reader: EntryReader, stream: str, keys: Mapping[str, bytes]
) -> dict[str, tuple[int, StoredMessage | None]]:
    """The numbers of the ids that the server knows, and what is stored there, if it can be read."""
    numbers = await asyncio.gather(*(number_of(connection, stream, key) for key in keys.values()))
    known = [(event_id, number) for event_id, number in zip(keys, numbers, strict=True) if number is not None]
    found = await asyncio.gather(*(reader.one(number) for _, number in known))
    return {event_id: (number, one) for (event_id, number), one in zip(known, found, strict=True)}
