"""Synchronous functions in the transaction of the row: they run in a thread, and their statements on the event loop.

The connection belongs to the event loop. A thread passes each call to it and waits for the outcome. When the attempt
ends, even by its time limit, the running call is cancelled and later ones are refused. The thread itself cannot be
cancelled, and must not write into a transaction of another attempt.
"""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from unlost.listener.core.errors import Permanent
from unlost.listener.ports.rows import HandlerConnection
from unlost.listener.routing.transaction import Transaction

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")


class AttemptEnded(Permanent):
    """A thread used the transaction of an attempt that has ended."""


class Bridge:
    """From one thread to the event loop, until it is closed. Made on the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._closed = False

    def wait(self, awaitable: Awaitable[T]) -> T:
        """In the thread: await this on the event loop, and return what it returns."""
        outcome: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._begin, awaitable, outcome)
        return outcome.result()

    def _begin(self, awaitable: Awaitable[T], outcome: "Future[T]") -> None:
        if self._closed or self._task is not None:
            close = getattr(awaitable, "close", None)
            if close is not None:  # a coroutine that nobody will await
                close()
            why = "the attempt has ended" if self._closed else "another thread uses it"
            outcome.set_exception(AttemptEnded(f"the transaction cannot be used: {why}"))
            return
        self._task = asyncio.create_task(_awaited(awaitable), name="a thread's statement")
        self._task.add_done_callback(lambda task: self._end(task, outcome))

    def _end(self, task: "asyncio.Task[T]", outcome: "Future[T]") -> None:
        self._task = None
        if task.cancelled():
            outcome.set_exception(AttemptEnded("the statement was cancelled: the attempt has ended"))
        elif error := task.exception():
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    async def close(self) -> None:
        """On the event loop: cancel the call under way, and refuse all later ones."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


class SyncTransaction:
    """``Transaction`` for a ``def``, which runs in a thread: the same methods, but they block."""

    __slots__ = ("_bridge", "_transaction")

    def __init__(self, connection: HandlerConnection, bridge: Bridge) -> None:
        self._transaction = Transaction(connection)
        self._bridge = bridge

    def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement; return its status, such as ``UPDATE 1``."""
        return self._bridge.wait(self._transaction.execute(query, *args, timeout=timeout))

    def executemany(self, query: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Run a statement once for each sequence of arguments."""
        self._bridge.wait(self._transaction.executemany(query, args, timeout=timeout))

    def fetch(self, query: str, *args: Any, timeout: float | None = None) -> "list[asyncpg.Record]":
        """Return all rows of a query."""
        return self._bridge.wait(self._transaction.fetch(query, *args, timeout=timeout))

    def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> "asyncpg.Record | None":
        """Return the first row of a query, or None."""
        return self._bridge.wait(self._transaction.fetchrow(query, *args, timeout=timeout))

    def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Return one value of the first row of a query, or None."""
        return self._bridge.wait(self._transaction.fetchval(query, *args, column=column, timeout=timeout))

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo only what happens within, if it raises: ``with tx.savepoint(): ...``."""
        inner = self._transaction.savepoint()
        self._bridge.wait(inner.__aenter__())
        try:
            yield
        except BaseException as error:
            self._bridge.wait(inner.__aexit__(type(error), error, error.__traceback__))
            raise
        self._bridge.wait(inner.__aexit__(None, None, None))
