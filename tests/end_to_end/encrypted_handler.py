"""A handler that gets plain content, and quotes it in its error."""

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject


async def handle(event: Delivery) -> None:
    if event.type == "bad":
        raise Reject(f"no good for {event.payload['name']}")
