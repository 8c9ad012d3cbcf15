"""A SQLAlchemy session on the connection of the row: what a route writes is committed with the row, or not at all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from sqlalchemy import JSON, String, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.contract.test_route_transactions import kept
from unlost import App
from unlost.listener.core.event import parse
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.handlers import HandlerFailed, attempt
from unlost.listener.ports.rows import Inserted, NewRow
from unlost.listener.routing.handler import AppHandler
from unlost.listener.store.postgres.connections import ConnectionKind, TransactionLeft
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

Work = Callable[[AsyncSession], Awaitable[object]]
FRAME = b'{"event_id": "e", "type": "t", "payload": {"a": [1, "x"]}}'


class Base(DeclarativeBase):
    """All tables."""


class Effect(Base):
    __tablename__ = "effects"
    name: Mapped[str] = mapped_column(String, primary_key=True)
    content: Mapped[dict | None] = mapped_column(JSONB)
    plain: Mapped[list | None] = mapped_column(JSON)


@pytest.fixture
async def database(database_url: str, kind: ConnectionKind) -> AsyncIterator[Database]:
    database = Database(database_url, kind=kind, connections=4)
    await migrate(database)
    async with database.acquire() as connection:
        await connection.execute("create table effects (name text primary key, content jsonb, plain json)")
    yield database
    await database.close()


async def stored(database: Database, work: Work) -> object:
    app = App()

    @app.on("t")
    async def route(session: AsyncSession) -> None:
        await work(session)

    handler = AppHandler("shop:app", app)
    form, call, arguments = handler.prepare(flight_of(parse(FRAME, max_bytes=100), FRAME, None, 0.0, 0.0), 1)
    assert form == "transaction"
    row = NewRow(parse(FRAME, max_bytes=100), 1, 1, 0.0)
    rows = PostgresRows(database, instance_id="a", token="a")
    return await rows.insert_with(row, lambda connection: attempt(call(*arguments, connection), timeout=20))


async def add(session: AsyncSession) -> None:
    session.add(Effect(name="a", content={"b": [1, None]}, plain=[1]))


async def test_objects_are_flushed_and_committed_with_the_row(database: Database) -> None:
    async def work(session: AsyncSession) -> None:
        await add(session)
        found = await session.scalar(select(Effect).where(Effect.name == "a"))
        assert found is not None
        assert (found.content, found.plain) == ({"b": [1, None]}, [1])
        assert await session.scalar(text("select count(*) from unlost.events")) == 1, "the row is there"
        session.add(Effect(name="b"))

    assert await stored(database, work) == Inserted()
    assert await kept(database) == (1, ["a", "b"])
    async with database.acquire() as connection:
        assert await connection.fetchval("select content from effects where name = 'a'") == '{"b": [1, null]}'
        assert await connection.fetchval("select payload from unlost.events") == '{"a": [1, "x"]}', "still text"


async def test_many_events_at_once_have_a_session_each(database: Database) -> None:
    app = App()

    @app.on("t")
    async def route(payload: str, session: AsyncSession) -> None:
        session.add(Effect(name=payload))
        await session.flush()
        await asyncio.sleep(0.01)
        if payload == "3":
            raise ValueError("no")

    handler, rows = AppHandler("shop:app", app), PostgresRows(database, instance_id="a", token="a")

    async def one(number: int) -> object:
        frame = b'{"event_id": "%d", "type": "t", "payload": "%d"}' % (number, number)
        _, call, arguments = handler.prepare(flight_of(parse(frame, max_bytes=100), frame, None, 0.0, 0.0), 1)
        row = NewRow(parse(frame, max_bytes=100), 1, 1, 0.0)
        return await rows.insert_with(row, lambda connection: attempt(call(*arguments, connection), timeout=20))

    ended = await asyncio.gather(*map(one, range(8)), return_exceptions=True)
    assert [isinstance(one, HandlerFailed) for one in ended] == [number == 3 for number in range(8)]
    assert await kept(database) == (7, [str(number) for number in range(8) if number != 3])


async def fail(session: AsyncSession) -> None:
    await add(session)
    await session.flush()
    raise ValueError("no")


async def commit_and_fail(session: AsyncSession) -> None:
    await add(session)
    await session.commit()
    session.add(Effect(name="b"))
    await session.commit()
    raise ValueError("no")


async def break_a_constraint_at_the_end(session: AsyncSession) -> None:
    await session.execute(text("insert into effects values ('a')"))
    await add(session)


async def close_and_fail(session: AsyncSession) -> None:
    await add(session)
    await session.commit()
    await (await session.connection()).close()
    await session.close()
    raise ValueError("no")


@pytest.mark.parametrize("work", [fail, commit_and_fail, break_a_constraint_at_the_end, close_and_fail])
async def test_a_route_that_fails_stores_nothing_whatever_it_committed(database: Database, work: Work) -> None:
    with pytest.raises(HandlerFailed) as failed:
        await stored(database, work)
    assert await kept(database) == (0, [])
    if work is break_a_constraint_at_the_end:
        assert isinstance(failed.value.origin, IntegrityError)
        assert failed.value.sqlstate == "23505"


async def commit(session: AsyncSession) -> None:
    await add(session)
    await session.commit()


async def go_on_after_an_error(session: AsyncSession) -> None:
    await commit(session)
    with contextlib.suppress(Exception):
        await session.execute(text("select 1 / 0"))
    await session.rollback()


async def close(session: AsyncSession) -> None:
    await commit(session)
    await session.close()


@pytest.mark.parametrize("work", [commit, go_on_after_an_error, close])
async def test_a_commit_of_the_route_is_committed_with_the_row(database: Database, work: Work) -> None:
    assert await stored(database, work) == Inserted()
    assert await kept(database) == (1, ["a"])


async def test_a_rollback_by_the_route_drops_its_writes_and_keeps_the_row(database: Database) -> None:
    async def work(session: AsyncSession) -> None:
        await add(session)
        await session.flush()
        await session.rollback()

    assert await stored(database, work) == Inserted()
    assert await kept(database) == (1, [])


@pytest.mark.parametrize("statement", ["rollback", "commit"])
async def test_a_route_that_ends_the_transaction_by_a_statement_has_failed_for_good(
    database: Database, statement: str
) -> None:
    async def work(session: AsyncSession) -> None:
        await session.execute(text(statement))

    with pytest.raises(TransactionLeft):
        await stored(database, work)
    assert await kept(database) == (int(statement == "commit"), [])
