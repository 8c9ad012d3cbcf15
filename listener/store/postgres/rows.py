"""The table ``events``. Its primary key decides that an event is stored once.

A row that was not inserted is compared before it is called a duplicate. It may be our own, if the reply to the commit
was lost. Or its content may differ, which is a conflict. PostgreSQL compares content as JSON values, after a digest
that settles nearly all cases cheaply.

An event in the register of burials is not inserted: a row and a dead letter exclude each other, and the statement that
would store the row decides.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import asyncpg

from unlost.listener.core.claim import ClaimRequest, Dead, Done
from unlost.listener.core.codec import EventCodec
from unlost.listener.core.errors import NotPermitted, Transient
from unlost.listener.core.event import Event
from unlost.listener.ports.rows import (
    BEHIND,
    BLOCKED,
    INSERTED,
    OTHER_ROW,
    SAME_ROW,
    NewRow,
    Result,
    TransactionPipeline,
)
from unlost.listener.store.postgres.coded_rows import decoded_row, holds_same
from unlost.listener.store.postgres.connections import Connection, HandlerTransaction, TransactionLeft
from unlost.listener.store.postgres.database import Borrowed, Database
from unlost.listener.store.postgres.errors import translated
from unlost.listener.store.postgres.grants import become
from unlost.listener.store.postgres.row_columns import columns_of, firsts_of, parts_of, values_of

NEWEST = 2**63 - 1


async def page_in(
    connection: Connection, sql: str, before: int, limit: int, codec: EventCodec | None = None
) -> list[dict[str, Any]]:
    """Return a page of rows, newest first."""
    return [decoded_row(row, codec) for row in await connection.fetch(sql, before, limit)]


class PostgresRows:
    """Inserts and reads rows, in the name of one start of a process."""

    def __init__(
        self,
        database: Database,
        *,
        instance_id: str,
        token: str,
        respects_burials: bool = True,
        longest_idle: float = 31.0,
        handler: str | None = None,
        handler_role: str = "",
        codec: EventCodec | None = None,
    ) -> None:
        """Make one. ``respects_burials``: buried events are not stored. A replay revives them, so it respects none.

        ``longest_idle``: seconds that a handler may leave its transaction idle, see ``insert_with``.
        ``handler_role``: the role of PostgreSQL that a handler has in its transaction, if not ours.
        ``codec``: encodes the content of rows.
        """
        self._database = database
        self._respects_burials = respects_burials
        self._instance_id = instance_id
        self._handler = handler
        self._handler_role = handler_role
        self._token = token
        self._codec = codec
        self._longest_idle = max(1, round(longest_idle * 1000))
        self._sql = database.statements("unlost.listener.store.postgres", "rows.sql")

    async def insert(self, rows: Sequence[NewRow]) -> list[Result]:
        """Store a batch in one statement: all of it, or one error for the whole batch."""
        if not rows:
            return []
        respects = self._respects_burials and not rows[0].revives
        if len(rows) > 1 and len(parts := parts_of(rows)) > 1:
            return await self._insert_apart(rows, parts)
        async with self._database.acquire("storing events") as connection:
            if len(rows) == 1:
                stored = int(await self._insert_one(connection, rows[0]))
            elif not rows[0].revives and len(firsts := firsts_of(rows)) < len(rows):
                return await self._insert_runs(connection, rows, firsts)
            elif any(row.order_key is not None for row in rows):
                stored = await self._insert_in_order(connection, rows)
            else:
                status = await connection.execute(
                    self._sql["insert"],
                    self._instance_id,
                    self._token,
                    *self._columns(rows),
                    respects,
                    self._handler,
                )
                stored = _count(status)
            return [INSERTED] * len(rows) if stored == len(rows) else await self._distinguished(connection, rows)

    def _columns(self, rows: Sequence[NewRow]) -> tuple[Any, ...]:
        return columns_of(rows, self._codec)

    async def _insert_runs(self, connection: Connection, rows: Sequence[NewRow], firsts: Sequence[int]) -> list[Result]:
        """Store several events of one key: of each key all up to the first that cannot be inserted.

        One statement, so no transaction stays open if this process freezes.
        """
        respects = self._respects_burials
        try:
            numbers: list[int] = await connection.fetchval(
                self._sql["insert_runs"], self._instance_id, self._token, *self._columns(rows), respects, self._handler,
                [row.order_key for row in rows],
            )  # fmt: skip
        except asyncpg.DivisionByZeroError:  # another transaction inserted one of these meanwhile: nothing is stored
            tried = [rows[i] for i in firsts]
            stored = await self._insert_in_order(connection, tried)
            results = [INSERTED] * len(tried) if stored == len(tried) else await self._distinguished(connection, tried)
            found = dict(zip(firsts, results, strict=True))
            return [found.get(i, BEHIND) for i in range(len(rows))]
        if not numbers:
            return [INSERTED] * len(rows)
        stopped = [rows[number - 1] for number in numbers]
        shown = firsts_of(stopped)
        results = await self._distinguished(connection, [stopped[i] for i in shown])
        known: list[Result] = [INSERTED] * len(rows)
        for number in numbers:
            known[number - 1] = BEHIND
        for i, result in zip(shown, results, strict=True):
            known[numbers[i] - 1] = result
        return known

    async def _insert_in_order(self, connection: Connection, rows: Sequence[NewRow]) -> int:
        respects = self._respects_burials and not rows[0].revives
        inserted: int = await connection.fetchval(
            self._sql["insert_in_order"], self._instance_id, self._token, *self._columns(rows), respects, self._handler,
            [row.order_key for row in rows], [row.edited.version if row.edited else None for row in rows],
            [row.edited.original if row.edited else None for row in rows],
        )  # fmt: skip
        return inserted

    async def _insert_apart(self, rows: Sequence[NewRow], parts: Sequence[Sequence[int]]) -> list[Result]:
        """Store what comes from letters and what does not in one statement each, and each edited letter in its own."""
        results: dict[int, Result] = {}
        for some in parts:
            results |= dict(zip(some, await self.insert([rows[i] for i in some]), strict=True))
        return [results[i] for i in range(len(rows))]

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[Connection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        """Store one event and do ``work`` in the same transaction: both take effect, or neither.

        ``work`` is not called if the row exists already or the event is buried. Its errors are raised as they are,
        except PostgreSQL's own, which are translated. The transaction holds the event's key. If this process were
        frozen in it, the next owner would wait for it, so PostgreSQL ends a transaction that idles for too long.
        """
        if self._codec is not None:
            self._codec.check(row.event)
        failed: Exception | None = None
        borrowed = await self._next_of(transactions)
        async with borrowed as connection:
            transaction = await borrowed.begin(self._longest_idle)
            # The row comes first: until the commit, its key in the index keeps out every other owner of this event.
            if not await self._insert_one(connection, row):
                await transaction.abandon()
                return (await self._distinguished(connection, [row]))[0]
            if self._handler_role:  # the row is inserted, so from here on our own rights are not needed
                await self._become(connection, transaction)
            proxy = transaction.proxy()
            try:
                await work(cast("Connection", proxy))
            except Exception as error:  # noqa: BLE001 - the border to a user's handler: kept, raised below
                failed = error
            finally:
                proxy.detach()
            if failed is None:
                follows = transactions is not None and transactions.more()
                if await transaction.commit(begin_next=follows) and transactions is not None:
                    borrowed.keep()
                    transactions.kept = borrowed
                return INSERTED
            try:
                await transaction.undo()
            except TransactionLeft as left:
                raise left from failed
        if isinstance(failed, asyncpg.PostgresError | asyncpg.InterfaceError):
            raise translated(failed, "the handler's work on its transaction", own_tables=False) from failed
        raise failed

    async def _become(self, connection: Connection, transaction: HandlerTransaction) -> None:
        """Take the handler's role. If that is refused, it is not the handler's failure."""
        try:
            await become(connection, self._handler_role)
        except NotPermitted:
            await transaction.undo()
            raise

    async def _next_of(self, transactions: TransactionPipeline | None) -> Borrowed:
        if transactions is not None:
            kept = transactions.kept
            if isinstance(kept, Borrowed) and kept.is_usable:
                transactions.kept = None
                return kept
            await transactions.rest()
        return self._database.acquire("storing an event with its handler")

    async def probe(self) -> None:
        """Insert nothing, but take the locks of an insert, and commit after disk and standbys as an insert does."""
        async with self._database.acquire("probing whether rows are taken") as connection:
            await connection.execute(self._sql["probe"])

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        """Return which of these are rows or burials, each with whether the content's digest is the same."""
        if not requests:
            return {}
        async with self._database.acquire("looking for settled events") as connection:
            return await self._settled(connection, requests)

    async def blocked(self, keys: Mapping[str, str]) -> set[str]:
        """Return those of these events, each with its key, whose key is blocked by an earlier letter."""
        async with self._database.acquire("looking for blocked keys") as connection:
            found = await connection.fetch(self._sql["blocked"], list(keys), list(keys.values()))
        return {row["event_id"] for row in found}

    async def any_stops(self, *, unsaid: bool) -> bool:
        """Return whether a letter that stops reading blocks a key. ``unsaid``: whether those count that say nothing."""
        async with self._database.acquire("looking for letters that stop reading") as connection:
            return bool(await connection.fetchval(self._sql["any_stops"], unsaid))

    async def same_content(self, event: Event) -> bool | None:
        """Return whether the row of this id has the same content as JSON values; None without a row."""
        async with self._database.acquire("comparing an event with its row") as connection:
            same: bool | None = await connection.fetchval(
                self._sql["same_content"],
                event.event_id,
                event.digest,
                event.type,
                event.payload.decode(),
                event.other.decode() if event.other is not None else None,
            )
            if same is False and self._codec is not None:
                return await self._is_same(connection, event, self._codec)
        return same

    async def _is_same(self, connection: Connection, event: Event, codec: EventCodec) -> bool:
        """Compare with an encoded row, which PostgreSQL cannot read."""
        return holds_same(await connection.fetchrow(self._sql["one"], event.event_id), event, codec)

    async def hashed_by_peers(self, seconds: float) -> int:
        """Count rows of other listeners, of the last seconds and among the latest, whose ids are hashes."""
        async with self._database.acquire("counting rows of peers") as connection:
            return int(await connection.fetchval(self._sql["hashed_by_peers"], self._instance_id, seconds))

    async def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return up to ``limit`` rows, newest first, with a ``seq`` below ``before``."""
        async with self._database.acquire("reading a page of events") as connection:
            return await page_in(
                connection, self._sql["page"], NEWEST if before is None else before, limit, self._codec
            )

    async def one(self, event_id: str) -> dict[str, Any] | None:
        """Return the row of this event."""
        if "\x00" in event_id:
            return None  # PostgreSQL's text cannot hold it
        async with self._database.acquire("reading an event") as connection:
            row = await connection.fetchrow(self._sql["one"], event_id)
        return None if row is None else decoded_row(row, self._codec)

    async def prune(self, older_than_seconds: float, *, batch: int = 5_000) -> AsyncIterator[int]:
        """Delete old rows in batches; yield the number after each. Ends when none is left."""
        while True:
            async with self._database.acquire("deleting old events") as connection:
                deleted = _count(await connection.execute(self._sql["prune"], older_than_seconds, batch, timeout=60))
            if deleted:
                yield deleted
            if deleted < batch:
                return

    async def _insert_one(self, connection: Connection, row: NewRow) -> bool:
        """Send a single row as plain values: arrays of one element cost both sides more than the row does."""
        respects = self._respects_burials and not row.revives
        if row.order_key is not None and (not respects or row.edited):  # its own letter may block the key
            return await self._insert_in_order(connection, [row]) == 1
        edited = () if row.edited is None else (row.edited.version, row.edited.original)
        keyed = () if row.order_key is None else (row.order_key,)
        status = await connection.execute(
            self._sql["insert_edited" if edited else "insert_keyed" if keyed else "insert_lone"],
            self._instance_id,
            self._token,
            *values_of(row, self._codec),
            respects,
            self._handler,
            *(edited or keyed),
        )
        return _count(status) == 1

    async def _settled(self, connection: Connection, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        found = await connection.fetch(
            self._sql["settled"],
            [request.event_id for request in requests],
            [request.digest for request in requests],
            self._respects_burials,
        )
        return {event_id: Done(same) if stored else Dead(same) for event_id, same, stored in found}

    async def _distinguished(self, connection: Connection, rows: Sequence[NewRow]) -> list[Result]:
        """Find out which rows are ours (written now or before a lost reply), which others', and which buried."""
        found = await connection.fetch(self._sql["compare"], self._token, *columns_of(rows))
        results: dict[int, Result] = {
            number - 1: INSERTED if mine else SAME_ROW if same else OTHER_ROW for number, mine, same in found
        }
        if self._codec is not None:
            for i in [i for i, result in results.items() if result is OTHER_ROW]:
                if await self._is_same(connection, rows[i].event, self._codec):
                    results[i] = SAME_ROW
        unclear = {i: row.event for i, row in enumerate(rows) if i not in results}
        if unclear:
            settled = await self._settled(
                connection, [ClaimRequest(one.event_id, one.digest) for one in unclear.values()]
            )
            answers = ((i, settled.get(event.event_id)) for i, event in unclear.items())
            results |= {i: answer for i, answer in answers if isinstance(answer, Dead)}
            # A letter's event with a key is refused only if its key is blocked by another one before it.
            keyed = [i for i in unclear if rows[i].order_key is not None and (i not in results or rows[i].revives)]
            results |= dict.fromkeys(keyed, BLOCKED)
        if len(results) != len(rows):
            raise Transient("storing events: a row vanished between being met and being read; try again")
        return [results[i] for i in range(len(rows))]


def _count(status: str) -> int:
    return int(status.rsplit(" ", 1)[-1])
