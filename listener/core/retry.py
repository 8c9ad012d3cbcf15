"""Bounded attempts, a pause between two of them. What is transient is tried again; nothing else is.

tenacity repeats, from the first failure on: what succeeds at once, as nearly everything does, builds none of it.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

from unlost.listener.core.errors import Transient

Work = Callable[[int], Awaitable[object]]
"""One attempt; it is told its number, from 1."""
Failed = Callable[[Transient, bool], None]
"""Hears of each failed attempt, and whether another follows."""


async def attempts(work: Work, *, count: int, delay: float, failed: Failed) -> None:
    """Return once an attempt has succeeded; raise what the last of ``count`` raised."""
    try:
        await work(1)
    except Transient as error:
        failed(error, count > 1)
        if count == 1:
            raise
        await asyncio.sleep(delay)
        await _again(work, count - 1, delay, failed)


async def _again(work: Work, count: int, delay: float, failed: Failed) -> None:
    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Transient):
            failed(error, state.attempt_number < count)

    async for attempt in AsyncRetrying(
        stop=stop_after_attempt(count),
        wait=wait_fixed(delay),
        retry=retry_if_exception_type(Transient),
        after=note,
        reraise=True,
    ):
        with attempt:
            await work(attempt.retry_state.attempt_number + 1)
