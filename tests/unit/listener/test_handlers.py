"""Plain functions run in threads, which cannot be cancelled. Whatever a handler raises is a failed attempt."""

import asyncio
import contextvars
import threading
from collections.abc import Callable

import pytest

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject, Transient
from unlost.listener.pipeline.handlers import MOST_HUNG, FunctionHandler, HandlerFailed, HandlerTimeout, attempt
from unlost.listener.routing.finding import find_handler

GO_ON = threading.Event()
DELIVERY = Delivery("e", None, None, {}, 1, 1)


def function_handler(name: str) -> FunctionHandler:
    found = find_handler(name)
    assert isinstance(found, FunctionHandler)
    return found


class Odd(BaseException):
    """An exception that no ``except Exception`` catches."""


RAISED: list[BaseException] = []


def plain(event: Delivery) -> None:
    raise RAISED[-1]


async def asynchronous(event: Delivery) -> None:
    await asyncio.sleep(0)
    raise RAISED[-1]


def handlers() -> list[FunctionHandler]:
    return [function_handler(f"{__name__}:{one}") for one in ("plain", "asynchronous")]


@pytest.mark.parametrize("handler", handlers(), ids=["plain", "asynchronous"])
@pytest.mark.parametrize(
    "raised",
    [
        TimeoutError, StopIteration, StopAsyncIteration, SystemExit, KeyboardInterrupt, GeneratorExit, Odd,
        asyncio.CancelledError, MemoryError, ValueError,
    ],
)  # fmt: skip
async def test_each_exception_of_a_handler_is_a_failed_attempt(
    handler: FunctionHandler, raised: Callable[[], BaseException]
) -> None:
    RAISED.append(raised())
    async with asyncio.timeout(5):
        with pytest.raises(HandlerFailed) as failed:
            await attempt(handler.call(DELIVERY), timeout=10)
    turned = handler.form == "plain" and handler.call is asynchronous and raised is StopIteration
    assert failed.value.error_type == ("RuntimeError" if turned else raised.__name__)
    assert isinstance(failed.value.__cause__, BaseException)


@pytest.mark.parametrize("handler", handlers(), ids=["plain", "asynchronous"])
@pytest.mark.parametrize("raised", [Reject("no"), Transient("later")])
async def test_reject_and_transient_pass_unchanged(handler: FunctionHandler, raised: Exception) -> None:
    RAISED.append(raised)
    with pytest.raises(type(raised)):
        await attempt(handler.call(DELIVERY), timeout=10)


async def test_only_our_own_limit_is_a_handler_that_took_too_long() -> None:
    async def impatient() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(10)

    with pytest.raises(HandlerFailed) as failed:
        await attempt(impatient(), timeout=10)
    assert failed.value.error_type == "TimeoutError"
    with pytest.raises(HandlerTimeout, match="longer than"):
        await attempt(asyncio.sleep(10), timeout=0.001)


async def test_a_real_cancellation_and_a_closed_coroutine_pass_as_they_are() -> None:
    task = asyncio.create_task(attempt(asyncio.sleep(10), timeout=20))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ended: list[str] = []

    async def note() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("closed")

    async def forgotten() -> None:
        coroutine = attempt(note(), timeout=20)
        coroutine.send(None)
        coroutine.close()

    await asyncio.create_task(forgotten())
    assert ended == ["closed"]


HANGS = threading.Semaphore(0)


def hang(event: Delivery) -> None:
    HANGS.release()
    GO_ON.wait()


def threads_that_hang() -> int:
    return sum(one.name == "handler hang" for one in threading.enumerate())


async def test_threads_that_hang_are_bounded_and_make_room_when_they_end():
    GO_ON.clear()
    handler = function_handler(f"{__name__}:hang")
    delivery = DELIVERY
    for _ in range(MOST_HUNG):
        given_up = asyncio.create_task(attempt(handler.call(delivery), timeout=60))
        await asyncio.to_thread(HANGS.acquire, timeout=20)
        given_up.cancel()
        await asyncio.wait([given_up])
    with pytest.raises(HandlerTimeout, match="threads of the handler hang"):
        await attempt(handler.call(delivery), timeout=0.001)
    assert threads_that_hang() == MOST_HUNG
    GO_ON.set()
    async with asyncio.timeout(10):
        while threads_that_hang():  # noqa: ASYNC110  threads end without notifying the loop
            await asyncio.sleep(0.01)
    await attempt(handler.call(delivery), timeout=10)


LEAKS = contextvars.ContextVar[str]("leaks")
RAN_IN: list[tuple[int, str | None]] = []


def remember(event: Delivery) -> None:
    RAN_IN.append((threading.get_ident(), LEAKS.get(None)))
    LEAKS.set("from the call before")


async def test_a_thread_is_used_again_and_keeps_no_context_of_an_earlier_call():
    RAN_IN.clear()
    handler = function_handler(f"{__name__}:remember")
    for _ in range(3):
        await attempt(handler.call(DELIVERY), timeout=10)
    assert [(RAN_IN[0][0], None)] * 3 == RAN_IN
    assert RAN_IN[0][0] != threading.get_ident()
