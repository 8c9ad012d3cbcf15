"""An event as text, as shipped handlers send it: in the envelope in which a listener reads it."""

import msgspec

from unlost.listener.core.delivery import Delivery


def text_of(event: Delivery) -> bytes:
    """Return the event as JSON: its id, type and payload, and its other fields."""
    named = {"event_id": event.event_id, "type": event.type, "payload": event.payload}
    return msgspec.json.encode({**event.other, **named})
