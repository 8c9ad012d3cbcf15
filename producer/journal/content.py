"""Whether two bodies are the same event. Order of names is ignored, numbers compare by value, ``true`` is not 1.

An object without ``payload`` is its own payload, however it was written. Bodies that an earlier version stored are
compared in the present form. ``event_type`` is the ``type`` of an event that has none. An object in a payload, under
the hash of its content, is that object.
"""

import json
from decimal import Decimal
from typing import Any

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import ENVELOPE, MAX_ID_CHARACTERS, content_id, envelope


def same_value(one: bytes, other: bytes) -> bool:
    """Compare as events. Unreadable bodies count as different: better report a conflict than drop an event."""
    try:
        return _equal(_content(one), _content(other))
    except (ValueError, ArithmeticError, RecursionError):
        return False


def _content(body: bytes) -> Any:
    value = json.loads(body, parse_int=Decimal, parse_float=Decimal)
    if not isinstance(value, dict):
        return value
    value = _typed(_unwrapped(value, body))
    if "payload" in value:
        return value
    fields = {name: value[name] for name in ENVELOPE & value.keys()}
    return {**fields, "payload": {name: value[name] for name in value if name not in ENVELOPE}}


def _unwrapped(value: dict[str, Any], body: bytes) -> dict[str, Any]:
    payload = value.get("payload")
    if value.keys() != {"event_id", "payload"} or not isinstance(payload, dict):
        return value
    try:
        is_wrapped = value["event_id"] == content_id(bytes(envelope.decode(body)["payload"]))
    except InvalidEvent:  # no id can be made of it, as of a number with thousands of digits
        return value
    return {"event_id": value["event_id"], **payload} if is_wrapped else value


def _typed(value: dict[str, Any]) -> dict[str, Any]:
    kind = value.get("event_type")
    if "type" in value or not isinstance(kind, str) or len(kind) > MAX_ID_CHARACTERS:
        return value
    return {**value, "type": kind}


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(_equal(left, right) for left, right in zip(one, other, strict=True))
    return bool(one == other)
