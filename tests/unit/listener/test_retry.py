"""Attempts are bounded, and errors that are not transient are never retried."""

import asyncio

import pytest

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.retry import attempts


class Work:
    """Fails a given number of times, with a given error."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.failures = failures
        self.error = error or Transient("not now")
        self.numbers: list[int] = []
        self.heard: list[bool] = []

    async def __call__(self, number: int) -> None:
        self.numbers.append(number)
        if number <= self.failures:
            raise self.error

    async def run(self, count: int = 3) -> None:
        await attempts(self, count=count, delay=0, failed=lambda error, retried: self.heard.append(retried))


@pytest.mark.parametrize("failures", [0, 1, 2])
async def test_work_that_succeeds_within_its_attempts_is_no_failure(failures: int) -> None:
    work = Work(failures)
    await work.run()
    assert work.numbers == list(range(1, failures + 2))
    assert work.heard == [True] * failures


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_the_last_failure_is_raised(count: int) -> None:
    work = Work(9)
    with pytest.raises(Transient, match="not now"):
        await work.run(count)
    assert work.numbers == list(range(1, count + 1))
    assert work.heard == [True] * (count - 1) + [False]


async def test_work_with_a_permanent_error_is_tried_once() -> None:
    work = Work(9, Permanent("never"))
    with pytest.raises(Permanent):
        await work.run()
    assert work.numbers == [1]
    assert not work.heard


async def test_a_cancellation_between_two_attempts_ends_them() -> None:
    work, failed = Work(9), asyncio.Event()
    running = asyncio.create_task(attempts(work, count=3, delay=3600, failed=lambda *_: failed.set()))
    await failed.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.numbers == [1]
