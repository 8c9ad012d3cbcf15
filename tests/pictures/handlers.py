"""The handler of the pictures: orders, some of which fail in ways that readers know from their own work."""

import asyncio
import os
from pathlib import Path

from unlost import App, Delivery, Reject

app = App()


@app.on("order.created")
async def reserve(order: Delivery) -> None:
    """Some orders need a service that is away until the file that ``STOCK_IS_BACK`` names exists."""
    await asyncio.sleep(0.1)  # so that listeners hold some events at each moment
    if order.payload.get("total", 0) < 0:
        raise Reject("negative total")
    if order.payload.get("warehouse") == "north" and not _stock_is_back():
        raise ConnectionError("the stock service is away")


def _stock_is_back() -> bool:
    return Path(os.environ["STOCK_IS_BACK"]).exists()
