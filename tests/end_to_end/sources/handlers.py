"""Handlers for the listeners of these tests."""

import asyncio
import os
from pathlib import Path

from unlost import Reject
from unlost.listener.core.delivery import Delivery


async def slowly(event: Delivery) -> None:
    """Take long enough that a listener is killed while it holds events; refuse one in fifty."""
    await asyncio.sleep(0.05)
    if event.payload % 50 == 49:
        raise Reject("one of those that nobody can take")


async def in_turn(event: Delivery) -> None:
    """Note each run in a file that all listeners share. One event in forty fails until the gate is open."""
    _note(event.event_id)
    await asyncio.sleep(0.01)
    number = int(event.payload["number"])
    if number % 40 == 17 and not _gate_is_open():
        if number % 80 == 17:
            raise Reject("nobody can take it yet")
        raise ConnectionError("the shop is closed")


def _note(event_id: str) -> None:
    with Path(os.environ["RUNS_FILE"]).open("a") as file:
        file.write(f"{event_id}\n")


def _gate_is_open() -> bool:
    return Path(os.environ["GATE_FILE"]).exists()
