"""Rows as the columns that one statement inserts, and the parts of a batch that need statements of their own."""

import contextlib
from collections.abc import Sequence
from typing import Any

import asyncpg

from unlost.listener.core.codec import EventCodec
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.statements import DEFAULT_GROUP, schema_of, statements


async def make_ready(connection: Connection, group: str = DEFAULT_GROUP) -> None:
    """Prepare a new connection by an insert of no rows.

    Otherwise its first batch takes ten times as long as later ones, since asyncpg asks the server what an array of
    numbers is. The insert heeds burials. PostgreSQL compares the first few plans of a statement with a generic one. A
    plan without the look at burials is so cheap that for hundreds of batches it would plan each anew.
    """
    nothing, sql = columns_of([]), statements("unlost.listener.store.postgres", "rows.sql", schema_of(group))
    with contextlib.suppress(asyncpg.PostgresError):  # the tables may not exist yet
        await connection.execute(sql["insert"], "", "", *nothing, True, None)


def parts_of(rows: Sequence[NewRow]) -> list[list[int]]:
    """The places of rows that one statement may store: nearly always all."""
    if not any(row.revives for row in rows):
        return [[*range(len(rows))]]
    edited = [[i] for i, row in enumerate(rows) if row.edited is not None]
    alike = ([i for i, row in enumerate(rows) if row.revives is one and row.edited is None] for one in (False, True))
    return [*filter(None, alike), *edited]


def firsts_of(rows: Sequence[NewRow]) -> list[int]:
    """The places of rows without a key, and of the first row of each key."""
    first: dict[str, int] = {}
    return [i for i, row in enumerate(rows) if row.order_key is None or first.setdefault(row.order_key, i) == i]


def values_of(row: NewRow, codec: EventCodec | None) -> tuple[Any, ...]:
    """The values of one row, without the defaults."""
    event = row.event
    payload, other = (event.payload, event.other) if codec is None else (codec.encode(event), None)
    return (
        event.event_id,
        event.type,
        payload.decode(),
        other.decode() if other is not None else None,
        event.digest,
        row.epoch,
        row.attempts,
        row.received_at,
    )


def columns_of(rows: Sequence[NewRow], codec: EventCodec | None = None) -> tuple[Any, ...]:
    """The columns of these rows, one array each."""
    events = [row.event for row in rows]
    payloads = [event.payload for event in events] if codec is None else list(map(codec.encode, events))
    others = [event.other or b"" for event in events] if codec is None else [b""] * len(events)
    # Numbers that are 1 in every row, as they nearly always are, are left out.
    epochs, attempts = [row.epoch for row in rows], [row.attempts for row in rows]
    return (
        [event.event_id for event in events],
        [event.type for event in events],
        b"\x01".join(payloads).decode(),
        b"\x01".join(others).decode(),
        b"".join([event.digest for event in events]),
        [] if epochs.count(1) == len(rows) else epochs,
        [] if attempts.count(1) == len(rows) else attempts,
        [row.received_at for row in rows],
    )
