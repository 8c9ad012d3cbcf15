"""Quick calls share a thread. None waits behind a slow one, and a call that was taken back never runs."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from unlost.listener.pipeline import handler_threads
from unlost.listener.pipeline.handler_threads import HandlerThreads

NEVER = 3600.0


def made() -> HandlerThreads:
    def sorted_error(error: BaseException) -> Exception:
        return RuntimeError(str(error))

    return HandlerThreads("test", sorted_error)


async def all_of(threads: HandlerThreads, *functions: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*map(threads.run, functions))


async def test_quick_calls_that_are_passed_on_together_wake_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "PATIENCE", NEVER)
    threads, ran_in = made(), list[int]()
    for _ in range(3):
        await all_of(threads, *[lambda: ran_in.append(threading.get_ident())] * 16)
    assert len(ran_in) == 48
    assert len(set(ran_in)) == 1


async def test_none_waits_behind_one_that_blocks() -> None:
    threads, together = made(), threading.Barrier(8, timeout=20)
    await all_of(threads, *[together.wait] * 8)


async def test_while_a_thread_gets_on_those_that_wait_get_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "PATIENCE", 0.2)
    monkeypatch.setattr(handler_threads, "QUICK", NEVER)
    threads, ran_in = made(), list[int]()

    def take_a_moment() -> None:
        time.sleep(0.02)
        ran_in.append(threading.get_ident())

    await all_of(threads, *[take_a_moment] * 32)
    assert len(ran_in) == 32
    assert len(set(ran_in)) == 1


async def test_slow_calls_have_a_thread_each_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "PATIENCE", NEVER)
    monkeypatch.setattr(handler_threads, "QUICK", -1.0)
    threads, together = made(), threading.Barrier(8, timeout=20)
    await all_of(threads, lambda: None)
    await all_of(threads, *[together.wait] * 8)


async def test_it_is_quick_while_nearly_all_calls_are(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = made()
    assert not threads.is_quick, "before anything is known"
    monkeypatch.setattr(handler_threads, "QUICK", NEVER)
    await all_of(threads, *[lambda: None] * 8)
    assert threads.is_quick
    monkeypatch.setattr(handler_threads, "QUICK", -1.0)
    await all_of(threads, lambda: None)
    assert not threads.is_quick


async def test_no_more_run_at_once_than_the_limit_and_the_time_limits_of_those_that_wait_begin_anew() -> None:
    threads, go_on, running, most = made(), threading.Event(), list[int](), list[int]()
    threads.limit(2)
    waits, anew = asyncio.Event(), list[int]()

    def block() -> None:
        running.append(1)
        most.append(len(running))
        go_on.wait(20)
        running.pop()

    def begin_anew(number: int) -> Callable[[], None]:
        def note() -> None:
            anew.append(number)
            waits.set()

        return note

    async with asyncio.timeout(20):
        calls = [asyncio.create_task(threads.run(block, begin_anew(number))) for number in range(4)]
        while len(most) < 2:  # noqa: ASYNC110  a thread appends
            await asyncio.sleep(0.001)
        anew.clear()
        waits.clear()
        await waits.wait()
        assert set(anew) == {2, 3}
        go_on.set()
        await asyncio.gather(*calls)
    assert max(most) == 2


async def test_a_call_that_was_given_up_leaves_its_place_to_another() -> None:
    threads, go_on, began = made(), threading.Event(), threading.Event()
    threads.limit(1)

    def block() -> None:
        began.set()
        go_on.wait(20)

    first = asyncio.create_task(threads.run(block))
    await asyncio.to_thread(began.wait)
    first.cancel()
    await asyncio.wait([first])
    await all_of(threads, lambda: None)
    go_on.set()


async def test_a_call_ends_while_another_of_its_thread_blocks() -> None:
    threads, go_on, waits = made(), threading.Event(), threading.Event()

    def block() -> None:
        waits.set()
        go_on.wait(20)

    quick = asyncio.create_task(threads.run(lambda: None))
    slow = asyncio.create_task(threads.run(block))
    async with asyncio.timeout(20):
        await quick
        await asyncio.to_thread(waits.wait)
        assert not slow.done()
        go_on.set()
        await slow


async def test_a_call_ends_although_the_next_one_came_in_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler_threads, "PATIENCE", NEVER)
    monkeypatch.setattr(handler_threads, "QUICK", NEVER)
    threads, go_on, ran, loop = made(), threading.Event(), list[str](), asyncio.get_running_loop()
    late: list[Future[None]] = []

    class Queue(deque[Any]):
        def popleft(self) -> Any:
            if not self and ran == ["first"]:  # the thread has seen that none waits
                ran.append("late")
                late.append(asyncio.run_coroutine_threadsafe(threads.run(lambda: go_on.wait(20)), loop))
                while not self:
                    time.sleep(0.001)
            return super().popleft()

    monkeypatch.setattr(handler_threads, "deque", Queue)
    async with asyncio.timeout(20):
        try:
            await threads.run(lambda: ran.append("first"))
            assert [one.done() for one in late] == [False]
        finally:
            go_on.set()
        await asyncio.wrap_future(late[0])


async def test_a_call_that_no_thread_has_taken_never_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "PATIENCE", NEVER)
    threads, go_on, began, ran = made(), threading.Event(), threading.Event(), list[str]()

    def block() -> None:
        began.set()
        go_on.wait(20)

    first, second = (asyncio.create_task(threads.run(one)) for one in (block, lambda: ran.append("second")))
    await asyncio.to_thread(began.wait)
    for one in (second, first):
        one.cancel()
        await asyncio.wait([one])
    assert threads.hung == 1, "one runs on, and the other was taken back"
    go_on.set()
    async with asyncio.timeout(20):
        while threads.hung:  # noqa: ASYNC110  the end of a call that nobody awaits is not signalled
            await asyncio.sleep(0.001)
        await threads.run(lambda: ran.append("third"))
    assert ran == ["third"]


async def test_where_no_thread_can_be_started_the_call_fails_and_later_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = made()

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await all_of(threads, lambda: None)
    await all_of(threads, lambda: None)


async def test_where_no_further_thread_can_be_started_those_that_are_awake_serve_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads, go_on, began, refused = made(), threading.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def block() -> None:
        began.set()
        go_on.wait(20)

    def refuse(_: threading.Thread) -> None:
        loop.call_soon(refused.set)
        raise RuntimeError("can't start new thread")

    first = asyncio.create_task(threads.run(block))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not began.is_set():  # noqa: ASYNC110  a thread sets it
            await asyncio.sleep(0.001)
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            others = asyncio.create_task(all_of(threads, *[lambda: None] * 4))
            await refused.wait()
            assert not others.done()
            go_on.set()
            await asyncio.gather(first, others)


async def test_where_all_threads_hang_and_none_can_be_started_the_call_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, go_on, began = made(), threading.Event(), threading.Event()

    def block() -> None:
        began.set()
        go_on.wait(20)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    first = asyncio.create_task(threads.run(block))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not began.is_set():  # noqa: ASYNC110  a thread sets it
            await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.wait([first])
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                await all_of(threads, lambda: None)
        go_on.set()


async def test_another_event_loop_is_served_too() -> None:
    threads, ran = made(), list[str]()
    await all_of(threads, lambda: ran.append("here"))
    await asyncio.to_thread(asyncio.run, all_of(threads, lambda: ran.append("there")))
    await all_of(threads, lambda: ran.append("here again"))
    assert ran == ["here", "there", "here again"]


async def test_many_calls_from_many_tasks_all_end() -> None:
    threads, ended = made(), list[int]()

    def pause(number: int) -> Callable[[], None]:
        def call() -> None:
            if number % 7 == 0:
                threading.Event().wait(0.002)
            ended.append(number)

        return call

    async def one_after_another(first: int) -> None:
        for number in range(first, 2_000, 16):
            await threads.run(pause(number))

    async with asyncio.timeout(60):
        await asyncio.gather(*map(one_after_another, range(16)))
    assert sorted(ended) == list(range(2_000))
    assert len([one for one in threading.enumerate() if one.name == "test"]) <= 64
