"""Rows in memory, and a connection that records what a route runs in its transaction."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.ports.rows import INSERTED, HandlerConnection, NewRow, Result, TransactionPipeline
from unlost.ops.testkit.result import Statement


class Unanswered(Exception):
    """A route queried the database, and the test has no answer. Raised in the test itself."""


class RecordingConnection:
    """Stands in for asyncpg's connection. It records every statement, and answers queries as the test defines.

    ``answers`` maps a part of a query to what it returns: rows for ``fetch`` and ``cursor``, a row for ``fetchrow``, a
    value for ``fetchval``. A function gets the arguments and returns the answer.
    """

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers
        self.statements: list[Statement] = []
        self.unanswered: Unanswered | None = None

    def __getattr__(self, name: str) -> Any:
        """Refuse all other methods: they need a database, as SQLAlchemy's session does."""
        self.unanswered = Unanswered(f"the route uses {name}() of its connection: give TestApp(postgres=True)")
        raise AttributeError(name)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Keep it; return the answer, if there is one for it."""
        del timeout
        self.statements.append(Statement(query, args))
        return self._answer(query, args, "OK")

    async def executemany(self, query: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        """Keep one statement for each sequence."""
        del timeout
        self.statements += [Statement(query, tuple(one)) for one in args]

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Keep it; return the answer."""
        del timeout
        self.statements.append(Statement(query, args))
        return self._answer(query, args)

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        """Keep it; return the answer."""
        return await self.fetch(query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Keep it; return the answer."""
        del column
        return await self.fetch(query, *args, timeout=timeout)

    async def cursor(
        self, query: str, *args: Any, prefetch: int | None = None, timeout: float | None = None
    ) -> AsyncIterator[Any]:
        """Keep it; yield the rows of the answer."""
        del prefetch
        for row in await self.fetch(query, *args, timeout=timeout):
            yield row

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Forget what was run within, if it raises."""
        before = len(self.statements)
        try:
            yield
        except BaseException:
            del self.statements[before:]
            raise

    def _answer(self, query: str, args: tuple[Any, ...], *otherwise: Any) -> Any:
        for part, answer in self._answers.items():
            if part in query:
                return answer(*args) if callable(answer) else answer
        if otherwise:
            return otherwise[0]
        self.unanswered = Unanswered(
            f"the test has no answer for {query!r}: give TestApp(answers={{part of the query: answer}}), or "
            "TestApp(postgres=True)"
        )
        raise self.unanswered


class MemoryRows:
    """The table of events in memory: of the port ``Rows``, the methods that one event needs."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = answers
        self._digests: dict[str, bytes] = {}
        self.statements: list[Statement] = []
        """The statements of the last committed transaction."""

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        """See ``Rows``, as for the other methods."""
        return {
            one.event_id: Done(self._digests[one.event_id] == one.digest)
            for one in requests
            if one.event_id in self._digests
        }

    async def blocked(self, keys: Mapping[str, str]) -> set[str]:
        """See ``Rows``. No event has a key here."""
        del keys
        return set()

    async def insert(self, rows: Sequence[NewRow]) -> list[Result]:
        """See ``Rows``. The caller asked ``settled`` before."""
        self._digests |= {row.event.event_id: row.event.digest for row in rows}
        return [INSERTED for _ in rows]

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[HandlerConnection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        """See ``Rows``."""
        del transactions
        connection = RecordingConnection(self._answers)
        try:
            await work(connection)
        finally:
            if connection.unanswered is not None:
                raise connection.unanswered
        self.statements = connection.statements
        (stored,) = await self.insert([row])
        return stored
