"""A handler's work in the transaction of its row, which is never committed: what it would write, counted by table.

PostgreSQL itself guarantees the rollback: a deferred constraint is violated from the beginning, so any commit fails,
also one that the handler sends. Writes on other connections are beyond this.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import asyncpg

from unlost.listener.core.claim import Dead
from unlost.listener.core.errors import Misconfigured
from unlost.listener.ports.rows import HandlerConnection, NewRow, OtherRow, SameRow
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.rows import PostgresRows

Wrote = Mapping[str, tuple[int, int, int]]
"""By table: rows inserted, updated, deleted."""


class _Undone(Exception):
    """The work has ended; its transaction is rolled back."""

    def __init__(self, wrote: Wrote) -> None:
        super().__init__()
        self.wrote = wrote


class ShadowRows:
    """Runs work as ``PostgresRows.insert_with`` does, and undoes it."""

    def __init__(self, rows: PostgresRows, database: Database) -> None:
        self._rows = rows
        self._sql = database.statements("unlost.listener.store.postgres", "shadow.sql")

    async def run(
        self, row: NewRow, work: Callable[[HandlerConnection], Awaitable[None]]
    ) -> Wrote | SameRow | OtherRow | Dead:
        """Return what the work wrote, or why it did not run. Raises what the work raises."""

        async def undone(connection: HandlerConnection) -> None:
            ours = cast("Connection", connection)
            try:
                await ours.execute(self._sql["guard"])
            except asyncpg.InsufficientPrivilegeError as error:
                raise Misconfigured(
                    f"a shadow replay makes a temporary table, so that nothing can be committed: {error}; grant the "
                    "handler's role TEMPORARY on the database"
                ) from None
            before = await self._counts(ours)
            await work(connection)
            await ours.execute(self._sql["check"])
            after = await self._counts(ours)
            raise _Undone({table: found for table in after if any(found := _minus(after[table], before.get(table)))})

        try:
            result = await self._rows.insert_with(row, undone)
        except _Undone as end:
            return end.wrote
        assert isinstance(result, SameRow | OtherRow | Dead), "the transaction was not committed"
        return result

    async def _counts(self, connection: Connection) -> dict[str, tuple[int, int, int]]:
        rows = await connection.fetch(self._sql["counts"])
        return {row["table"]: (row["inserted"], row["updated"], row["deleted"]) for row in rows}


def _minus(after: tuple[int, int, int], before: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """The difference: this session may have counts of earlier transactions that are not reported yet."""
    inserted, updated, deleted = (one - other for one, other in zip(after, before or (0, 0, 0), strict=True))
    return inserted, updated, deleted
