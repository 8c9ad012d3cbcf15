"""What a handler is given: one event, decoded, and what is known about this attempt."""

from typing import Any

import msgspec


class Delivery(msgspec.Struct, frozen=True):
    """One attempt to handle one event.

    ``payload`` is the decoded JSON value, ``other`` the fields beside ``event_id``, ``type`` and
    ``payload``. ``attempt`` counts from 1 within this owner; ``epoch`` above 1 says that an earlier
    owner may have begun the work already.
    """

    event_id: str
    type: str | None
    payload: Any
    other: dict[str, Any]
    attempt: int
    epoch: int
