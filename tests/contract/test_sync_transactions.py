# ruff: noqa: F811  parameters are named after the fixture that is imported
"""A ``def`` in the transaction of the row, in its thread: what it writes is committed with the row, or not at all.

By ``SyncTransaction``, and by SQLAlchemy's synchronous session.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.contract.test_route_transactions import kept
from tests.contract.test_sqlalchemy_transactions import FRAME, Effect, database  # noqa: F401  a fixture
from unlost import App, SyncTransaction
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import parse
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.handlers import HandlerFailed, HandlerTimeout, attempt
from unlost.listener.ports.rows import Inserted, NewRow
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.threads import AttemptEnded
from unlost.listener.store.postgres.connections import TransactionLeft
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

INSERT = "insert into effects (name) values ($1)"
TxWork = Callable[[SyncTransaction], object]
SessionWork = Callable[[Session], object]


def by_transaction(work: TxWork) -> App:
    app = App()

    @app.on("t")
    def route(tx: SyncTransaction) -> None:
        assert threading.current_thread() is not threading.main_thread()
        work(tx)

    return app


def by_session(work: SessionWork) -> App:
    app = App()

    @app.on("t")
    def route(session: Session) -> None:
        assert threading.current_thread() is not threading.main_thread()
        work(session)

    return app


async def stored(database: Database, app: App, *, frame: bytes = FRAME, timeout: float = 20) -> object:
    handler = AppHandler("shop:app", app)
    form, call, arguments = handler.prepare(flight_of(parse(frame, max_bytes=100), frame, None, 0.0, 0.0), 1)
    assert form == "transaction"
    row = NewRow(parse(frame, max_bytes=100), 1, 1, 0.0)
    rows = PostgresRows(database, instance_id="a", token="a")
    return await rows.insert_with(row, lambda connection: attempt(call(*arguments, connection), timeout=timeout))


async def test_every_method_works_in_the_transaction_of_the_row(database: Database) -> None:
    def work(tx: SyncTransaction) -> None:
        assert tx.execute(INSERT, "a") == "INSERT 0 1"
        tx.executemany(INSERT, [("b",), ("c",)])
        assert [row["name"] for row in tx.fetch("select name from effects order by name")] == ["a", "b", "c"]
        first = tx.fetchrow("select name from effects order by name")
        assert first is not None
        assert first["name"] == "a"
        assert tx.fetchval("select count(*) from unlost.events where event_id = 'e'") == 1, "the row is there"
        with contextlib.suppress(ValueError), tx.savepoint():
            tx.execute(INSERT, "undone")
            raise ValueError
        with tx.savepoint():
            tx.execute(INSERT, "d")

    assert await stored(database, by_transaction(work)) == Inserted()
    assert await kept(database) == (1, ["a", "b", "c", "d"])


async def test_objects_are_flushed_and_committed_with_the_row(database: Database) -> None:
    def work(session: Session) -> None:
        session.add(Effect(name="a", content={"b": [1, None]}, plain=[1]))
        found = session.scalar(select(Effect).where(Effect.name == "a"))
        assert found is not None
        assert (found.content, found.plain) == ({"b": [1, None]}, [1])
        assert session.scalar(text("select count(*) from unlost.events")) == 1, "the row is there"
        session.add(Effect(name="b"))

    assert await stored(database, by_session(work)) == Inserted()
    assert await kept(database) == (1, ["a", "b"])


async def test_many_at_once_have_a_thread_and_a_session_each(database: Database) -> None:
    app = App()
    together = threading.Barrier(4, timeout=20)

    @app.on("t")
    def route(payload: str, session: Session) -> None:
        session.add(Effect(name=payload))
        session.flush()
        together.wait()
        if payload == "3":
            raise ValueError("no")

    def one(number: int) -> Any:
        frame = b'{"event_id": "%d", "type": "t", "payload": "%d"}' % (number, number)
        return stored(database, app, frame=frame)

    ended = await asyncio.gather(*map(one, range(4)), return_exceptions=True)
    assert [isinstance(one, HandlerFailed) for one in ended] == [number == 3 for number in range(4)]
    assert await kept(database) == (3, ["0", "1", "2"])


def fail(tx: SyncTransaction) -> None:
    tx.execute(INSERT, "a")
    raise ValueError("no")


def swallow(tx: SyncTransaction) -> None:
    tx.execute(INSERT, "a")
    with contextlib.suppress(asyncpg.PostgresError):
        tx.execute("select 1 / 0")


def roll_back(tx: SyncTransaction) -> None:
    tx.execute(INSERT, "a")
    tx.execute("rollback")


def roll_back_and_begin(tx: SyncTransaction) -> None:
    tx.execute("rollback; begin")
    tx.execute(INSERT, "a")


def leave_a_savepoint(tx: SyncTransaction) -> None:
    tx.execute(INSERT, "a")
    with tx.savepoint():
        raise SystemExit(1)


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (fail, HandlerFailed),
        (swallow, Transient),
        (roll_back, TransactionLeft),
        (roll_back_and_begin, TransactionLeft),
        (leave_a_savepoint, HandlerFailed),
    ],
)
async def test_a_function_that_misbehaves_stores_nothing(
    database: Database,
    work: TxWork,
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        await stored(database, by_transaction(work))
    assert await kept(database) == (0, [])


async def test_a_function_that_commits_by_hand_is_stored_once_and_fails(database: Database) -> None:
    def work(tx: SyncTransaction) -> None:
        tx.execute(INSERT, "a")
        tx.execute("commit")

    with pytest.raises(TransactionLeft):
        await stored(database, by_transaction(work))
    assert await kept(database) == (1, ["a"])
    assert await stored(database, by_transaction(work)) == Inserted(), (
        "its own row is recognised, and nothing runs again"
    )


def add(session: Session) -> None:
    session.add(Effect(name="a"))


def commit_and_fail(session: Session) -> None:
    add(session)
    session.commit()
    session.add(Effect(name="b"))
    session.commit()
    raise ValueError("no")


def break_a_constraint_at_the_end(session: Session) -> None:
    session.execute(text("insert into effects values ('a')"))
    add(session)


def close_and_fail(session: Session) -> None:
    add(session)
    session.commit()
    session.connection().close()
    session.close()
    raise ValueError("no")


@pytest.mark.parametrize("work", [commit_and_fail, break_a_constraint_at_the_end, close_and_fail])
async def test_a_session_that_fails_stores_nothing_whatever_it_committed(
    database: Database,
    work: SessionWork,
) -> None:
    with pytest.raises(HandlerFailed) as failed:
        await stored(database, by_session(work))
    assert await kept(database) == (0, [])
    if work is break_a_constraint_at_the_end:
        assert isinstance(failed.value.origin, IntegrityError)
        assert failed.value.sqlstate == "23505"


def commit(session: Session) -> None:
    add(session)
    session.commit()


def go_on_after_an_error(session: Session) -> None:
    commit(session)
    with contextlib.suppress(Exception):
        session.execute(text("select 1 / 0"))
    session.rollback()


def close(session: Session) -> None:
    commit(session)
    session.close()


@pytest.mark.parametrize("work", [commit, go_on_after_an_error, close])
async def test_a_commit_of_the_session_is_committed_with_the_row(
    database: Database,
    work: SessionWork,
) -> None:
    assert await stored(database, by_session(work)) == Inserted()
    assert await kept(database) == (1, ["a"])


async def test_a_rollback_by_the_session_drops_its_writes_and_keeps_the_row(database: Database) -> None:
    def work(session: Session) -> None:
        add(session)
        session.flush()
        session.rollback()

    assert await stored(database, by_session(work)) == Inserted()
    assert await kept(database) == (1, [])


@pytest.mark.parametrize("statement", ["rollback", "commit"])
async def test_a_session_that_ends_the_transaction_by_a_statement_has_failed_for_good(
    database: Database,
    statement: str,
) -> None:
    with pytest.raises(TransactionLeft):
        await stored(database, by_session(lambda session: session.execute(text(statement))))
    assert await kept(database) == (int(statement == "commit"), [])


async def test_a_thread_that_outlives_its_attempt_writes_nothing_more(database: Database) -> None:
    """It cannot be cancelled. Its statement under way is, and each later one is refused."""
    refused: list[BaseException] = []
    go_on, ended = threading.Event(), threading.Event()

    def work(tx: SyncTransaction) -> None:
        tx.execute(INSERT, "a")
        try:
            tx.execute("select pg_sleep(30)")
        except BaseException as error:  # noqa: BLE001
            refused.append(error)
        go_on.wait(20)
        try:
            tx.execute(INSERT, "late")
        except BaseException as error:  # noqa: BLE001
            refused.append(error)
        ended.set()

    with pytest.raises(HandlerTimeout):
        await stored(database, by_transaction(work), timeout=0.5)
    go_on.set()
    await asyncio.to_thread(ended.wait, 20)
    assert [type(error) for error in refused] == [AttemptEnded, AttemptEnded]
    assert await kept(database) == (0, [])
    assert await stored(database, by_transaction(lambda tx: tx.execute(INSERT, "b"))) == Inserted()
    assert await kept(database) == (1, ["b"])


async def test_two_threads_of_one_attempt_do_not_mix_their_statements(database: Database) -> None:
    refused: list[BaseException] = []

    def work(tx: SyncTransaction) -> None:
        def other() -> None:
            try:
                for _ in range(200):
                    tx.execute("select pg_sleep(0.001)")
            except AttemptEnded as error:
                refused.append(error)

        beside = threading.Thread(target=other)
        beside.start()
        other()
        beside.join()

    assert await stored(database, by_transaction(work)) == Inserted()
    assert "another thread uses it" in str(refused[0])
