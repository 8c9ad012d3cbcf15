"""The rows that all workers by hand store: one statement for many rows, whose primary key drops duplicates."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import attrgetter
from typing import TypeAlias

import asyncpg
import msgspec

BATCH = 512
"""The most messages that a worker takes before it inserts."""
TABLE = """create table loop_events (
    event_id text primary key, type text, payload jsonb, received_at timestamptz not null,
    processed_at timestamptz not null default clock_timestamp())"""
WITHOUT_KEY = TABLE.replace("text primary key", "text not null")
INSERT = """insert into loop_events (event_id, type, payload, received_at)
    select i, t, p::jsonb, to_timestamp($4) from unnest($1::text[], $2::text[], $3::text[]) as e (i, t, p)
    on conflict do nothing"""
COLUMNS = ("event_id", "type", "payload", "received_at")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Envelope(msgspec.Struct):
    """The envelope; the payload stays text."""

    event_id: str
    payload: msgspec.Raw
    type: str | None = None

    @property
    def text(self) -> str:
        """The payload as JSON text."""
        return bytes(self.payload).decode()


decode = msgspec.json.Decoder(Envelope).decode


async def insert(connection: Connection, messages: Sequence[bytes]) -> None:
    """Store these messages, except those whose ids have rows already."""
    received = time.time()
    events = sorted(map(decode, messages), key=attrgetter("event_id"))  # two workers with the same ids would deadlock
    columns = [one.event_id for one in events], [one.type for one in events], [one.text for one in events]
    await connection.execute(INSERT, *columns, received)


async def copy(connection: Connection, messages: Sequence[bytes]) -> None:
    """Copy these messages, duplicates too, into a table without a key."""
    received = datetime.now(UTC)
    events = [decode(one) for one in messages]
    rows = [(one.event_id, one.type, one.text, received) for one in events]
    await connection.copy_records_to_table("loop_events", records=rows, columns=COLUMNS)


def begin_when_asked() -> None:
    """Report that everything is loaded and connected, and wait for the start of the measurement."""
    print("ready", flush=True)
    sys.stdin.readline()
