"""Decides by the answer of a receiver whether an effect is delivered. Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from unlost.listener.core.effects import DELIVERED, DeliveryOutcome
from unlost.listener.core.errors import LONGEST_WAIT
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable

AGAIN = frozenset((408, 425, 429))
QUOTED = 200


def judged(status: int, body: bytes, retry_after: str, now: float) -> DeliveryOutcome:
    """Sort the answer of a webhook."""
    if 200 <= status < 300:
        return DELIVERED
    why = f"HTTP {status}{_quoted(body)}"
    if status in AGAIN or status >= 500:
        return DeliveryOutcome("again", why, f"HTTP {status}", seconds_of(retry_after, now))
    return DeliveryOutcome("never", why)


def judged_by_producer(status: int, body: bytes, retry_after: str, now: float) -> DeliveryOutcome:
    """Sort the answer of a producer. It knows an event that it has already, by the key."""
    if status == 409 and _status_in(body) == "duplicate":
        return DELIVERED
    return judged(status, body, retry_after, now)


def seconds_of(retry_after: str, now: float) -> float:
    """Return the seconds of a ``Retry-After``, a number or a date, up to a day; 0 for anything else."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return min(LONGEST_WAIT, float(text))
    try:
        at = parsedate_to_datetime(text)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
    return min(LONGEST_WAIT, max(0.0, seconds))


def _status_in(body: bytes) -> str:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return str(found.get("status", "")) if isinstance(found, dict) else ""


def _quoted(body: bytes) -> str:
    said = printable(masked(body[:QUOTED].decode(errors="replace"))).strip()
    return f": {said}" if said else ""
