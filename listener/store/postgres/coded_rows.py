"""Rows whose content a codec has encoded: shown and compared as plain content."""

import json
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from unlost.dlq.record.json_patch import equal
from unlost.listener.core.codec import EventCodec, Unreadable, is_coded
from unlost.listener.core.event import Event

_exact = msgspec.json.Decoder(float_hook=Decimal)


def decoded_row(row: asyncpg.Record, codec: EventCodec | None) -> dict[str, Any]:
    """Return a row as values. ``unreadable`` says why its content cannot be decoded; it stays coded then."""
    shown = dict(row)
    payload, other = shown["payload"], shown["other"]
    if codec is not None and is_coded(payload.encode()):
        try:
            event = codec.decode_event(payload.encode(), event_id=shown["event_id"])
        except Unreadable as error:
            shown["unreadable"] = str(error)
        else:
            payload, other = event.payload, event.other
    shown["payload"] = json.loads(payload)
    shown["other"] = json.loads(other) if other is not None else None
    return shown


def holds_same(row: asyncpg.Record | None, event: Event, codec: EventCodec) -> bool:
    """Whether a row's encoded content has the same values as an event. PostgreSQL has compared any other row."""
    if row is None or not is_coded(row["payload"].encode()):
        return False
    try:
        stored = codec.decode_event(row["payload"].encode(), event_id=event.event_id)
        return stored.type == event.type and equal(_values(stored), _values(event))
    except (Unreadable, msgspec.DecodeError, RecursionError, ArithmeticError):
        return False


def _values(event: Event) -> list[Any]:
    return [None if part is None else _exact.decode(part) for part in (event.payload, event.other)]
