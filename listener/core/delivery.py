"""The argument of a handler: one event, decoded, and what is known about this attempt."""

from typing import Any

import msgspec

from unlost.listener.core.cloudevent import SOURCE, binary, structured
from unlost.listener.core.effects import NO_EFFECTS, Effects


class Delivery(msgspec.Struct, frozen=True):
    """One attempt to handle one event.

    ``payload`` is the decoded JSON value. ``other`` has the fields beside ``event_id``, ``type`` and ``payload``.
    ``attempt`` counts from 1 for this owner. If ``epoch`` is above 1, an earlier owner may have begun the work already.
    ``effects`` records calls to other systems, if the function runs in the row's transaction.
    """

    event_id: str
    type: str | None
    payload: Any
    other: dict[str, Any]
    attempt: int
    epoch: int
    effects: Effects = NO_EFFECTS

    def cloudevent(self, source: str = SOURCE) -> dict[str, Any]:
        """Return the event as a CloudEvent, one JSON object (structured mode).

        ``source`` is used unless the event came as a CloudEvent.
        """
        return structured(self.event_id, self.type, self.payload, self.other, source)

    def cloudevent_request(self, source: str = SOURCE) -> tuple[dict[str, str], bytes]:
        """Return the event as a CloudEvent: the headers and the body of an HTTP request (binary mode)."""
        return binary(self.event_id, self.type, self.payload, self.other, source)
