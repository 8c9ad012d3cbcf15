"""The argument of a handler: one event, decoded, and what is known about this attempt."""

from typing import Any

import msgspec


class Delivery(msgspec.Struct, frozen=True):
    """One attempt to handle one event.

    ``payload`` is the decoded JSON value. ``other`` has the fields beside ``event_id``, ``type`` and ``payload``.
    ``attempt`` counts from 1 for this owner. If ``epoch`` is above 1, an earlier owner may have begun the work already.
    """

    event_id: str
    type: str | None
    payload: Any
    other: dict[str, Any]
    attempt: int
    epoch: int
