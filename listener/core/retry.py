"""Bounded attempts with a pause between them. Only transient errors are retried.

tenacity is used only after a first failure. Nearly every call succeeds at once and costs nothing more.
"""

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_fixed

from unlost.listener.core.errors import Transient

Work = Callable[[int], Awaitable[object]]
"""One attempt. Its argument is its number, from 1."""
Failed = Callable[[Transient, bool], None]
"""Called for each failed attempt; the second argument says whether another follows."""


async def attempts(work: Work, *, count: int, delay: float, failed: Failed) -> None:
    """Return once an attempt has succeeded; raise the error of the last of ``count`` attempts."""
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
