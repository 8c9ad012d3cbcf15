"""Whether two bodies are the same JSON value. Order of names is ignored, numbers compare by value, ``true`` is not
1."""

import json
from decimal import Decimal
from typing import Any


def same_value(one: bytes, other: bytes) -> bool:
    """Compare as JSON values. Unreadable bodies count as different: better report a conflict than drop an event."""
    try:
        return _equal(_read(one), _read(other))
    except (ValueError, ArithmeticError, RecursionError):
        return False


def _read(body: bytes) -> Any:
    return json.loads(body, parse_int=Decimal, parse_float=Decimal)


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(_equal(left, right) for left, right in zip(one, other, strict=True))
    return bool(one == other)
