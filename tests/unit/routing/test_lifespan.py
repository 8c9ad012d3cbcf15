"""The lifespan: entered once, left once, by one task, and bounded."""

import asyncio
from typing import Any

import pytest

from unlost import App, Delivery
from unlost.listener.core.errors import Transient
from unlost.listener.routing import resources
from unlost.listener.routing.handler import AppHandler


def app_with(lifespan: Any) -> AppHandler:
    app = App()
    app.lifespan(lifespan)

    @app.on("*")
    async def take(event: Delivery) -> None: ...

    return AppHandler("shop:app", app)


async def test_it_is_entered_and_left_by_one_task_that_is_not_ours() -> None:
    tasks = []

    async def lifespan() -> Any:
        async with asyncio.timeout(60):  # refuses to be left by another task
            tasks.append(asyncio.current_task())
            yield {}
            tasks.append(asyncio.current_task())

    handler = app_with(lifespan)
    await asyncio.create_task(handler.open())
    assert len(tasks) == 1
    await handler.close()
    await handler.close()
    assert len(tasks) == 2
    assert tasks[0] is tasks[1] is not asyncio.current_task()


@pytest.mark.parametrize("raised", [ConnectionError, SystemExit, KeyboardInterrupt])
async def test_one_that_fails_can_be_tried_again(raised: type[BaseException]) -> None:
    tries = []

    async def lifespan() -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise raised("the warehouse does not answer")
        yield

    handler = app_with(lifespan)
    with pytest.raises(Transient, match=r"the lifespan failed: .*the warehouse does not answer"):
        await handler.open()
    await handler.open()
    await handler.close()


async def test_one_that_ends_by_itself_says_why() -> None:
    breaks = asyncio.Event()

    async def lifespan() -> Any:
        async def work() -> None:
            await breaks.wait()
            raise ConnectionError("gone")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(work())
            yield {}

    handler = app_with(lifespan)
    await handler.open()
    ended = asyncio.create_task(handler.until_ended())
    await asyncio.sleep(0)
    assert not ended.done()
    breaks.set()
    assert "HANDLER=shop:app: the lifespan ended by itself" in await asyncio.wait_for(ended, 5)
    await handler.close()


async def test_one_that_does_not_end_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "CLOSE_SECONDS", 0.01)
    ended = []

    async def lifespan() -> Any:
        yield {}
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    handler = app_with(lifespan)
    await handler.open()
    await handler.close()
    assert ended == [1]


async def test_a_stop_while_it_is_entered_leaves_it() -> None:
    began, left = asyncio.Event(), []

    async def lifespan() -> Any:
        began.set()
        try:
            await asyncio.sleep(0)
            yield {}
        finally:
            left.append(1)

    held = app_with(lifespan)
    opening = asyncio.create_task(held.open())
    await began.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert left == [1]
