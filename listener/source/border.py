"""The border to a source's code and the libraries below it. Their errors end a session, never a listener.

An error that is not ours is a mistake, in the library or in the source's code. Its traceback goes to the log.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from unlost.listener.core.errors import UnlostError
from unlost.listener.ports.source import Loss, Session, Source, SourceEnded
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable, printable_lines

OPEN_SECONDS = 120.0
"""The time limit for opening a source, with its subscriptions. Then it is tried again."""
MESSAGE_LIMIT = 500
TRACE_FRAMES = 20
TRACE_LIMIT = 8_000


@contextlib.contextmanager
def border(failed: str) -> Iterator[None]:
    """Let our own errors pass, and turn any other into ``SourceEnded``. ``failed`` says what did not work."""
    try:
        yield
    except UnlostError:
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # A library whose own task or future was cancelled: nobody asked this one to stop.
        raise SourceEnded(loss_of(error, failed)) from error
    except Exception as error:
        raise SourceEnded(loss_of(error, failed)) from error


def loss_of(error: BaseException, failed: str) -> Loss:
    """Describe an error of a source, with its traceback if the error is not ours."""
    one = first_of(error)
    if isinstance(one, SourceEnded):
        return one.loss
    words = printable(masked(str(one))[:MESSAGE_LIMIT])
    said = f"{failed}: {type(one).__name__}" + (f": {words}" if words else "")
    return Loss(said, trace="" if isinstance(one, UnlostError) else _trace_of(error))


def first_of(error: BaseException) -> BaseException:
    """Return the first error of a group, which has ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _trace_of(error: BaseException) -> str:
    lines = traceback.format_exception(error, limit=-TRACE_FRAMES)
    return printable_lines(masked("".join(lines))[-TRACE_LIMIT:])


class GuardedOpening:
    """Opens a source, as an ``AbstractAsyncContextManager`` with the border around opening and closing.

    Errors that are raised while it is open pass unchanged.
    """

    def __init__(self, source: Source, cursor: Callable[[], Awaitable[str | None]]) -> None:
        self._source = source
        self._cursor = cursor
        self._opened: AbstractAsyncContextManager[Session] | None = None

    async def __aenter__(self) -> Session:
        """Open the source."""
        with border("the source could not be opened"):
            self._opened = self._source.open(self._cursor)
            limit = asyncio.timeout(OPEN_SECONDS)
            try:
                async with limit:
                    return await self._opened.__aenter__()
            except TimeoutError:
                if not limit.expired():
                    raise
                why = f"opening the source and subscribing took longer than {OPEN_SECONDS:.0f} seconds"
                raise SourceEnded(Loss(why)) from None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Close it. If that fails too, the first error counts."""
        assert self._opened is not None
        try:
            with border("closing the source failed"):
                return await self._opened.__aexit__(kind, error, trace)
        except UnlostError as failed:
            if error is None or failed is error:
                raise
            return False
