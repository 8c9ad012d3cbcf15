"""A handler for the tests of the console. The event's type says what it does."""

import asyncio
from pathlib import Path

from unlost import Delivery, Reject

NAME = f"{__name__}:handle"


async def handle(event: Delivery) -> None:
    """``refused``: never. ``broken``: fails until the file named in the payload exists. ``slow``: waits for it."""
    if event.type == "refused":
        raise Reject(f"card {event.payload['card']} has no cover")
    if event.type == "broken" and not _is_there(event):
        raise RuntimeError("the stock service is away")
    while event.type == "slow" and not _is_there(event):  # noqa: ASYNC110  another process creates it
        await asyncio.sleep(0.02)


def _is_there(event: Delivery) -> bool:
    return Path(event.payload["file"]).exists()
