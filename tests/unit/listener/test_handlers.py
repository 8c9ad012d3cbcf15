"""Plain functions run in threads, which cannot be cancelled."""

import asyncio
import threading

import pytest

from listener.delivery import Delivery
from listener.handlers import MOST_HUNG, HandlerTimeout, attempt, find_handler

GO_ON = threading.Event()


def hang(event: Delivery) -> None:
    GO_ON.wait()


async def test_threads_that_hang_are_bounded_and_make_room_when_they_end():
    GO_ON.clear()
    handler = find_handler(f"{__name__}:hang")
    delivery = Delivery("e", None, None, {}, 1, 1)
    before = threading.active_count()
    for _ in range(MOST_HUNG):
        with pytest.raises(HandlerTimeout, match="longer than"):
            await attempt(handler.call(delivery), timeout=0.001)
    with pytest.raises(HandlerTimeout, match="threads of the handler hang"):
        await attempt(handler.call(delivery), timeout=0.001)
    assert threading.active_count() == before + MOST_HUNG
    GO_ON.set()
    async with asyncio.timeout(10):
        while threading.active_count() > before:  # noqa: ASYNC110  threads end without telling the loop
            await asyncio.sleep(0.01)
    await attempt(handler.call(delivery), timeout=10)
