"""The promises of the store, on a real PostgreSQL, over wires that cut and swallow, and on the simulated one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from tests.simulation.by_hand import HandLink
from tests.simulation.hooks import Hooks
from tests.simulation.postgres import PostgresMemory
from tests.simulation.postgres_adapters import (
    Session,
    SimulatedCursors,
    SimulatedMembership,
    SimulatedPostgresClaims,
    SimulatedRegister,
    SimulatedStore,
)
from tests.support.cutting_proxy import CuttingProxy
from tests.support.yardstick import Yardstick
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.core.claim import ClaimRequest, Dead, Done, Won
from unlost.listener.core.errors import Misconfigured, Permanent, Reject, Transient, Unavailable
from unlost.listener.core.event import Event, parse
from unlost.listener.fast.pool import FAST
from unlost.listener.ports.claims import Claims
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.dead_letters import Burial, LetterRegister
from unlost.listener.ports.membership import Member, Membership
from unlost.listener.ports.rows import Inserted, NewRow, OtherRow, Rows, SameRow, TransactionPipeline
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.connections import Connection, ConnectionKind
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import LOCK, Migrated, known_migrations, migrate
from unlost.listener.store.postgres.pool import PLAIN
from unlost.listener.store.postgres.row_columns import make_ready
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

LIFE = 0.4
LEFT_IN_SESSION = """select current_setting('work_mem') as work_mem,
    (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
    (select count(*) from pg_listening_channels()) as channels"""


def event(event_id: str, payload: str = '{"n": 1}', more: str = "") -> Event:
    return parse(f'{{"event_id": "{event_id}", "payload": {payload}{more}}}', max_bytes=1 << 20)


def row(event_id: str, payload: str = '{"n": 1}', more: str = "", received_at: float = 1_700_000_000.123456) -> NewRow:
    return NewRow(event(event_id, payload, more), 1, 1, received_at)


def store_of(database: Database, token: str = "a") -> PostgresRows:
    return PostgresRows(database, instance_id=token, token=token)


def burial(event_id: str, letter_id: str = "l", *, claimed: bool = True) -> Burial:
    return Burial(event_id, event(event_id).digest, letter_id, claimed)


@pytest.fixture
async def database(database_url: str, kind: ConnectionKind) -> AsyncIterator[Database]:
    database = Database(database_url, timeout=2.0, kind=kind)
    await migrate(database)
    yield database
    await database.close()


class Real:
    """A real PostgreSQL, for any number of processes."""

    commit = b"COMMIT"
    effect = "INSERT INTO effects SELECT count(*) FROM effects"

    def __init__(self, database: Database, url: str, kind: ConnectionKind) -> None:
        self._database = database
        self._url = url
        self._kind = kind

    def store(self, token: str = "a") -> Rows:
        return store_of(self._database, token)

    def register(self, token: str = "a") -> LetterRegister:
        return PostgresLetterRegister(self._database, token=token)

    def claims(self, token: str) -> Claims:
        return PostgresClaims(self._database, token=token, lease_seconds=30, window_seconds=600)

    def cursors(self) -> GroupCursors:
        return PostgresCursors(self._database)

    def membership(self, token: str, *, life: float = 4.0, **handler: Any) -> Membership:
        return PostgresMembership(self._database, token=token, instance_id=token, life_seconds=life, **handler)

    async def count(self) -> int:
        return await count(self._database)

    async def effects(self) -> int:
        return await count(self._database, "effects")

    async def prepare_effects(self) -> None:
        async with self._database.acquire() as connection:
            await connection.execute("CREATE TABLE effects (n int PRIMARY KEY)")

    @contextlib.asynccontextmanager
    async def wired(self) -> AsyncIterator[tuple[Rows, CuttingProxy | HandLink]]:
        async with CuttingProxy(self._url) as wire:
            through = Database(wire.url, timeout=2.0, kind=self._kind)
            yield store_of(through), wire
            await through.close()


class Simulated:
    """The simulated PostgreSQL."""

    commit = b"commit"
    effect = "e"

    def __init__(self) -> None:
        self._memory = PostgresMemory(time.monotonic, Hooks())
        self._session = self._open(HandLink())

    def _open(self, wire: HandLink) -> Session:
        return Session(self._memory, wire, timeout=1.0, changed=wire.changed)

    def store(self, token: str = "a") -> Rows:
        return SimulatedStore(self._session, token=token)

    def register(self, token: str = "a") -> LetterRegister:
        return SimulatedRegister(self._session, token=token)

    def claims(self, token: str) -> Claims:
        return SimulatedPostgresClaims(self._session, token=token, lease_seconds=30)

    def cursors(self) -> GroupCursors:
        return SimulatedCursors(self._session)

    def membership(self, token: str, *, life: float = 4.0, **handler: Any) -> Membership:
        return SimulatedMembership(self._open(HandLink()), token=token, life_seconds=life, **handler)

    async def count(self) -> int:
        return len(self._memory.rows)

    async def effects(self) -> int:
        return len(self._memory.effects)

    async def prepare_effects(self) -> None:
        pass

    @contextlib.asynccontextmanager
    async def wired(self) -> AsyncIterator[tuple[Rows, CuttingProxy | HandLink]]:
        wire = HandLink()
        yield SimulatedStore(self._open(wire), token="a"), wire


@pytest.fixture(params=["plain", "fast", "simulated"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Real | Simulated]:
    if request.param == "simulated":
        yield Simulated()
        return
    url, kind = request.getfixturevalue("database_url"), FAST if request.param == "fast" else PLAIN
    database = Database(url, timeout=2.0, kind=kind)
    await migrate(database)
    yield Real(database, url, kind)
    await database.close()


async def count(database: Database, table: str = "unlost.events") -> int:
    async with database.acquire() as connection:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")


async def test_a_batch_is_answered_row_by_row(server: Real | Simulated) -> None:
    a, b = server.store("a"), server.store("b")
    assert await a.insert([row("same"), row("other")]) == [Inserted(), Inserted()]
    batch = [row("z-new"), row("same"), row("other", '{"n": 2}'), row("a-new")]
    assert await b.insert(batch) == [Inserted(), SameRow(), OtherRow(), Inserted()]
    assert await server.count() == 4


async def test_an_empty_batch(server: Real | Simulated) -> None:
    assert await server.store().insert([]) == []
    assert await server.store().settled([]) == {}


async def test_one_id_twice_in_a_batch_is_one_row(server: Real | Simulated) -> None:
    rows = [row("e"), row("e", received_at=1.0), row("e", '{"n": 2}')]
    assert await server.store().insert(rows) == [Inserted(), SameRow(), OtherRow()]


@pytest.mark.parametrize(
    ("spelling", "result"),
    [
        ('{ "n" :  1 }', SameRow()),
        ('{"n": 1.0}', SameRow()),
        ('{"n": 1e0}', SameRow()),
        ('{"n": "1"}', OtherRow()),
        ('{"n": 1, "m": null}', OtherRow()),
    ],
)
async def test_content_is_compared_as_json_values(server: Real | Simulated, spelling: str, result: object) -> None:
    await server.store("a").insert([row("e")])
    store = server.store("b")
    assert await store.insert([row("e", spelling)]) == [result]
    assert await store.same_content(event("e", spelling)) is (result == SameRow())


async def test_other_fields_and_the_type_are_content_too(server: Real | Simulated) -> None:
    store = server.store()
    await store.insert([row("e", more=', "type": "t", "x": 1')])
    assert await store.same_content(event("e", more=', "x": 1.0, "type": "t"')) is True
    assert await store.same_content(event("e", more=', "x": 2, "type": "t"')) is False
    assert await store.same_content(event("e", more=', "x": 1')) is False
    assert await store.same_content(event("nowhere")) is None


async def test_a_batch_keeps_each_rows_own_words(database: Database) -> None:
    odd = row(r"e\u0001", r'"\u0001"', r', "type": "t\u0001", "x": "\u0001"')
    rows = [odd, row("b"), row("c", "[ ]", ', "x": [1,\n 2]'), row("d", '""')]
    store = store_of(database)
    assert await store.insert(rows) == [Inserted()] * 4
    assert await store_of(database, "b").insert(rows) == [SameRow()] * 4, "each with its own digest"
    found = [await store.one(one.event.event_id) for one in rows]
    assert [(one["type"], one["payload"], one["other"]) for one in found if one] == [
        ("t\x01", "\x01", {"x": "\x01"}),
        (None, {"n": 1}, None),
        (None, [], {"x": [1, 2]}),
        (None, "", None),
    ]


@pytest.mark.parametrize("numbers", [[(1, 1), (1, 1)], [(1, 1), (2, 3)], [(2, 1), (1, 3)], [(4, 4), (5, 5)], [(7, 2)]])
async def test_a_row_says_which_owner_stored_it_and_after_how_many_attempts(
    database: Database, numbers: list[tuple[int, int]]
) -> None:
    store = store_of(database)
    rows = [NewRow(event(f"e{i}"), *of_row, received_at=1.0) for i, of_row in enumerate(numbers)]
    assert await store.insert(rows) == [Inserted()] * len(rows)
    found = [await store.one(one.event.event_id) for one in rows]
    assert [(one["epoch"], one["attempts"]) for one in found if one] == numbers


async def test_the_store_reports_which_events_are_settled(server: Real | Simulated) -> None:
    store = server.store()
    await store.insert([row("e"), row("f")])
    assert await server.register().enter([burial("dead"), burial("e")]) == ["buried", "stored"]
    other = b"\0" * 32
    requests = [
        ClaimRequest("e", event("e").digest),
        ClaimRequest("f", other),
        ClaimRequest("g", other),
        ClaimRequest("dead", event("dead").digest),
    ]
    assert await store.settled(requests) == {"e": Done(True), "f": Done(False), "dead": Dead(True)}
    assert await store.settled([ClaimRequest("dead", other)]) == {"dead": Dead(False)}


async def test_a_buried_event_is_not_inserted(server: Real | Simulated) -> None:
    async def never(connection: object) -> None:
        raise AssertionError("the work of a buried event was done")

    store = server.store("b")
    assert await server.register("a").enter([burial("dead")]) == ["buried"]
    assert await store.insert([row("before"), row("dead"), row("after")]) == [Inserted(), Dead(True), Inserted()]
    assert await store.insert([row("dead", '{"n": 2}')]) == [Dead(False)]
    assert await store.insert_with(row("dead"), never) == Dead(True)
    assert await server.count() == 2


async def test_the_register_names_one_letter_for_each_event(server: Real | Simulated) -> None:
    a, b = server.register("a"), server.register("b")
    assert await a.enter([burial("e", "first")]) == ["buried"]
    assert await b.enter([burial("e", "second"), burial("f", "third")]) == ["elsewhere", "buried"]
    assert await a.enter([burial("e", "first")]) == ["buried"]
    assert await b.enter([Burial("e", b"\0" * 32, "of other content")]) == ["buried"]
    await server.store("c").insert([row("row")])
    assert await b.enter([Burial("row", b"\0" * 32, "of other content")]) == ["taken"]


async def test_the_first_letter_entered_takes_an_event_announced_as_dead(
    server: Real | Simulated,
) -> None:
    request = ClaimRequest("e", event("e").digest)
    assert await server.claims("a").settle([request], "dead") == [True]
    assert await server.store("b").settled([request]) == {"e": Dead(True)}
    assert await server.register("a").enter([burial("e", "first")]) == ["buried"]
    assert await server.register("b").enter([burial("e", "second")]) == ["elsewhere"]


async def test_nobody_is_buried_whom_another_may_store(server: Real | Simulated) -> None:
    mine, others = ClaimRequest("mine", event("mine").digest), ClaimRequest("others", event("others").digest)
    await server.claims("a").claim([mine], take_over=False)
    await server.claims("b").claim([others], take_over=False)
    letters = [burial("mine"), burial("others"), burial("nobody's", claimed=False)]
    assert await server.register("a").enter(letters) == ["buried", "open", "open"]
    assert await server.store("b").insert([row("others"), row("nobody's")]) == [Inserted(), Inserted()]
    assert await server.register("a").enter(letters) == ["buried", "stored", "stored"]


async def test_a_replay_stores_what_is_buried(database: Database) -> None:
    await PostgresLetterRegister(database, token="a").enter([burial("e")])
    digging = PostgresRows(database, instance_id="dlq", token="dlq", respects_burials=False)
    assert await digging.settled([ClaimRequest("e", event("e").digest)]) == {}
    assert await digging.insert([row("e")]) == [Inserted()]
    assert await store_of(database).settled([ClaimRequest("e", event("e").digest)]) == {"e": Done(True)}


@pytest.mark.parametrize(
    ("payload", "sqlstate"), [('{"n": 1e999999}', "22003"), ("[" * 20_000 + "]" * 20_000, "54001")]
)
async def test_data_that_postgres_refuses_is_a_permanent_error(database: Database, payload: str, sqlstate: str) -> None:
    bad = NewRow(Event("bad", None, payload.encode(), None, b"\0" * 32, b""), 1, 1, 0.0)
    with pytest.raises(Permanent) as caught:
        await store_of(database).insert([row("good"), bad])
    assert caught.value.sqlstate == sqlstate
    assert await count(database) == 0
    assert await store_of(database).insert([row("good")]) == [Inserted()]


async def test_a_commit_whose_reply_was_lost_is_not_a_duplicate(server: Real | Simulated) -> None:
    async with server.wired() as (store, wire):
        await store.insert([row("warm")])
        wire.cut_reply(b"lost-one")
        with pytest.raises(Transient):
            await store.insert([row("lost-one")])
        assert wire.cuts == 1
        while await store.same_content(event("lost-one")) is None:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)
        assert await server.store("b").insert([row("lost-one")]) == [SameRow()]
        assert await store.insert([row("lost-one")]) == [Inserted()]
        assert await store.insert([row("lost-one", received_at=1.0)]) == [SameRow()]


async def test_a_handler_shares_the_transaction(server: Real | Simulated) -> None:
    store = server.store()
    await server.prepare_effects()

    async def work(connection) -> None:
        await connection.execute(server.effect)

    assert await store.insert_with(row("e"), work) == Inserted()
    assert await server.store("b").insert_with(row("e"), work) == SameRow()
    assert await store.insert_with(row("e", '{"n": 2}'), work) == OtherRow()
    assert (await server.count(), await server.effects()) == (1, 1)


async def test_an_error_in_the_transaction_rolls_the_row_back(database: Database) -> None:
    store = store_of(database)

    async def reject(_) -> None:
        raise Reject("no")

    async def time_out(_) -> None:
        raise TimeoutError("the handler's own")

    async def violate(connection) -> None:
        await connection.execute("INSERT INTO unlost.cursors (source) VALUES ('x')")

    async def divide(connection) -> None:
        await connection.execute("SELECT 1 / 0")

    for work, error in ((reject, Reject), (time_out, TimeoutError), (violate, Permanent), (divide, Permanent)):
        with pytest.raises(error):
            await store.insert_with(row("e"), work)
    assert await count(database) == 0

    async def nothing(_) -> None:
        pass

    assert await store.insert_with(row("e"), nothing) == Inserted()


@pytest.mark.parametrize("error", [None, Reject("no")])
async def test_session_state_of_a_handler_ends_with_its_transaction(
    database_url: str, error: Exception | None, kind: ConnectionKind
) -> None:
    """One connection, so that the next caller gets the same one."""
    database = Database(database_url, connections=1, kind=kind)
    await migrate(database)
    sent: list[str] = []

    async def leave(connection) -> None:
        connection.add_query_logger(lambda query: sent.append(query.query))
        await connection.execute("SET work_mem = '123MB'; SELECT pg_advisory_lock(7); LISTEN news")
        if error:
            raise error

    async def look(connection) -> None:
        left = await connection.fetchrow(LEFT_IN_SESSION)
        assert dict(left) == {"work_mem": "4MB", "locks": 0, "channels": 0}

    async with contextlib.AsyncExitStack() as expected:
        if error:
            expected.enter_context(pytest.raises(Reject))
        await store_of(database).insert_with(row("e"), leave)
    await asyncio.sleep(0)  # the library reports a query one step later
    if kind is FAST:
        ended = [query for query in sent if "COMMIT;" in query or "ROLLBACK;" in query]
        assert ["RESET ALL" in query for query in ended] == [error is None], "commit and reset are one message"
    assert await store_of(database).insert_with(row("f"), look) == Inserted()
    await database.close()


@pytest.mark.parametrize("more", [False, True])
async def test_a_lost_reply_to_a_handlers_commit(server: Real | Simulated, *, more: bool) -> None:
    """Whether or not the same message has begun the next transaction."""
    runs = 0
    series = TransactionPipeline(lambda: more)

    async def work(_) -> None:
        nonlocal runs
        runs += 1

    async with server.wired() as (store, wire):
        wire.cut_reply(server.commit)
        with pytest.raises(Transient):
            await store.insert_with(row("e"), work, series)
        while await store.same_content(event("e")) is None:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.01)
        assert await store.insert_with(row("e"), work, series) == Inserted()
        assert runs == 1
        await series.rest()


async def test_a_cancelled_handler_leaves_no_row_and_no_connection_behind(
    database_url: str, kind: ConnectionKind
) -> None:
    database = Database(database_url, connections=1, timeout=2.0, kind=kind)
    await migrate(database)
    begun = asyncio.Event()

    async def work(connection) -> None:
        begun.set()
        await connection.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(store_of(database).insert_with(row("e"), work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count(database) == 0
    await database.close()


async def test_an_owner_frozen_in_its_transaction_does_not_keep_its_heir_waiting(database: Database) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def freeze(connection) -> None:
        begun.set()
        await go_on.wait()

    async def nothing(connection) -> None:
        pass

    frozen = PostgresRows(database, instance_id="a", token="a", longest_idle=0.3)
    late = asyncio.create_task(frozen.insert_with(row("e"), freeze))
    await begun.wait()
    assert await store_of(database, "b").insert_with(row("e"), nothing) == Inserted()
    go_on.set()
    with pytest.raises(Transient):
        await late
    assert await count(database) == 1


async def test_a_connection_is_made_ready_before_and_after_there_are_tables(
    database_url: str, kind: ConnectionKind
) -> None:
    for _ in range(2):
        database = Database(database_url, kept_open=2, make_ready=make_ready, kind=kind)
        await migrate(database)
        assert await count(database) == 0
        await database.close()


async def test_a_connection_that_was_made_ready_soon_keeps_one_plan_for_all_batches(
    database_url: str, kind: ConnectionKind
) -> None:
    database = Database(database_url, connections=1, kind=kind)
    await migrate(database)
    await database.close()
    database = Database(database_url, connections=1, make_ready=make_ready, kind=kind)
    store = store_of(database)
    for n in range(20):
        await store.insert([row(f"{n}a"), row(f"{n}b")])
    async with database.acquire() as connection:
        planned = await connection.fetchval(
            "select custom_plans from pg_prepared_statements where statement LIKE 'INSERT%'"
        )
    await database.close()
    assert planned <= 5, "PostgreSQL makes five custom plans before it compares"


async def test_a_connection_that_cannot_be_made_ready_is_given_to_nobody(
    database_url: str, kind: ConnectionKind
) -> None:
    made: list[Connection] = []

    async def fail(connection: Connection) -> None:
        made.append(connection)
        raise ConnectionResetError("gone again")

    database = Database(database_url, make_ready=fail, kind=kind)
    with pytest.raises(Transient, match="gone again"):
        async with database.acquire():
            pass
    assert [one.is_closed() for one in made] == [True]
    await database.close()


async def test_a_silent_server_is_known_in_time_and_the_pool_heals(
    database: Database, database_url: str, kind: ConnectionKind
) -> None:
    async with CuttingProxy(database_url) as wire:
        through = Database(wire.url, timeout=0.5, connect_timeout=0.5, kind=kind)
        store = store_of(through)
        await asyncio.gather(*(store.insert([row(f"warm{i}")]) for i in range(8)))
        async with Yardstick(database_url) as yardstick:
            wire.swallow()
            looks = (store.settled([ClaimRequest("e", b"")]) for _ in range(8))
            outcomes = await asyncio.gather(*looks, return_exceptions=True)
            assert all(isinstance(outcome, Transient) for outcome in outcomes)
            assert yardstick.seconds < 2.0
        wire.pass_again()
        assert await store.insert([row("e")]) == [Inserted()]
        await through.close()


async def test_after_a_restart_one_failure_renews_the_pool(own_postgres, kind: ConnectionKind) -> None:
    database = Database(own_postgres.create_database("restart"), connections=4, timeout=2.0, kind=kind)
    await migrate(database)
    store = store_of(database)
    await asyncio.gather(*(store.insert([row(f"e{i}")]) for i in range(4)))
    own_postgres.restart()
    try:
        await store.insert([row("first")])
    except Transient:
        assert await store.insert([row("first")]) == [Inserted()]
    assert await asyncio.gather(*(store.insert([row(f"f{i}")]) for i in range(4))) == [[Inserted()]] * 4
    await database.close()


async def test_opening(database_url: str, kind: ConnectionKind) -> None:
    assert (await Database(database_url, kind=kind).open())[0].isdigit()
    with pytest.raises(Transient):
        await Database("postgresql://127.0.0.1:1/x", kind=kind).open()
    with pytest.raises(Misconfigured, match="no_such_database"):
        await Database(database_url.rpartition("/")[0] + "/no_such_database", kind=kind).open()


@pytest.mark.database("empty")
async def test_ten_migrating_at_once_do_not_collide(database_url: str, kind: ConnectionKind) -> None:
    databases = [Database(database_url, kind=kind) for _ in range(10)]
    applied = await asyncio.gather(*(migrate(database) for database in databases))
    names = tuple(migration.name for migration in known_migrations())
    assert sorted(one.applied for one in applied) == [()] * 9 + [names]
    assert await migrate(databases[0]) == Migrated("unlost")
    async with databases[0].acquire() as connection:
        await connection.execute("UPDATE unlost.migrations SET sha256 = 'x'")
    with pytest.raises(Misconfigured, match="changed after"):
        await migrate(databases[0])
    for database in databases:
        await database.close()


@pytest.mark.database("empty")
async def test_a_migration_waits_for_another_longer_than_for_an_answer(database_url: str, kind: ConnectionKind) -> None:
    database, other = Database(database_url, timeout=1.0, kind=kind), await asyncpg.connect(database_url)
    await other.execute("SELECT pg_advisory_lock($1)", LOCK)
    migrating = asyncio.create_task(migrate(database))
    waited = "datname = current_database() AND wait_event = 'advisory' AND clock_timestamp() > query_start + '1.2 s'"
    async with asyncio.timeout(20):
        while not await other.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {waited}"):
            assert not migrating.done()
            await asyncio.sleep(0.05)
    await other.execute("SELECT pg_advisory_unlock($1)", LOCK)
    assert (await migrating).applied
    await other.close()
    await database.close()


async def test_pages_and_one(database: Database) -> None:
    store = store_of(database)
    for i in range(5):
        await store.insert([row(f"e{i}", f'{{"n": {i}}}', ', "x": [1]')])
    first = await store.page(None, 2)
    assert [shown["event_id"] for shown in first] == ["e4", "e3"]
    second = await store.page(first[-1]["seq"], 10)
    assert [shown["event_id"] for shown in second] == ["e2", "e1", "e0"]
    one = await store.one("e3")
    assert one == first[1]
    assert one["payload"] == {"n": 3}
    assert one["other"] == {"x": [1]}
    assert await store.one("nowhere") is None


async def test_pruning_in_batches(database: Database) -> None:
    store = store_of(database)
    await store.insert([row(f"e{i}") for i in range(25)])
    assert [n async for n in store.prune(3600, batch=10)] == []
    assert [n async for n in store.prune(0, batch=10)] == [10, 10, 5]


async def test_cursors_never_go_back(server: Real | Simulated) -> None:
    cursors = server.cursors()
    assert await cursors.read("s", "g") is None
    assert await cursors.start("s", "g", "j-5") == "j-5"
    assert await cursors.start("s", "g", "j-9") == "j-5"
    for cursor, expected in (
        ("j-10", "j-10"), ("j-9", "j-10"), ("j-010", "j-10"), ("k-1", "k-1"),
        ("no digits", "no digits"), ("99999999999999999999999999", "99999999999999999999999999"), ("3", "9" * 26),
    ):  # fmt: skip
        await cursors.advance("s", "g", cursor)
        assert await cursors.read("s", "g") == expected
    assert await cursors.read("s", "other") is None


OURS, OTHER = "0123456789ab", "ba9876543210"


async def test_a_recorded_start_is_never_moved_back_either(server: Real | Simulated) -> None:
    cursors = server.cursors()
    assert await cursors.start("s", "g", "j.7") == "j.7"
    assert await cursors.start("s", "g", "j.9") == "j.7", "another cursor was first"
    assert await cursors.advance("s", "g", "j.3") == "j.7"
    assert await cursors.advance("s", "g", "j.8") == "j.8"


async def test_cursors_of_one_journal_follow_its_timelines(server: Real | Simulated) -> None:
    cursors = server.cursors()
    for cursor, expected in (
        (f"{OURS}.t5-0000000a.900", f"{OURS}.t5-0000000a.900"),
        (f"{OURS}.t5-0000000a.899", f"{OURS}.t5-0000000a.900"),
        (f"{OURS}.t12-0000000b.200", f"{OURS}.t12-0000000b.200"),
        (f"{OURS}.t5-0000000a.1000", f"{OURS}.t12-0000000b.200"),  # a slow peer, still in a lost history
        (f"{OTHER}.t99-0000000c.1", f"{OURS}.t12-0000000b.200"),
        (f"{OURS}.t1795886437830-0000000d.0", f"{OURS}.t1795886437830-0000000d.0"),
        (f"{OURS}.t1795886437830-0000000d.1", f"{OURS}.t1795886437830-0000000d.1"),
        ("foreign-1", "foreign-1"),
        (f"{OTHER}.t1-0000000c.1", f"{OTHER}.t1-0000000c.1"),
    ):
        assert await cursors.advance("s", "g", cursor) == expected
        assert await cursors.read("s", "g") == expected


async def test_a_cursor_is_reset_only_from_what_it_is(server: Real | Simulated) -> None:
    cursors = server.cursors()
    ahead, back, on = (f"{OURS}.t{timeline}-0000000a.{number}" for timeline, number in ((2, 900), (1, 200), (3, 201)))
    await cursors.advance("s", "g", ahead)
    assert await cursors.reset("s", "g", back, on) == ahead
    assert await cursors.reset("s", "g", ahead, back) == back
    assert await cursors.advance("s", "g", on) == on
    assert await cursors.reset("s", "g", ahead, back) == on
    assert await cursors.reset("s", "g", on, f"{OTHER}.t1-0000000c.1") == f"{OTHER}.t1-0000000c.1"


async def test_only_who_knows_the_store_takes_it_further(server: Real | Simulated) -> None:
    a, b = server.membership("a"), server.membership("b")
    first = (await a.refresh()).store
    assert (await b.refresh()).store == first
    second = (await a.refresh(first)).store
    assert (second.name, second.version) == (first.name, first.version + 1)
    assert (await a.refresh(second)).store.version == first.version + 2
    ahead = msgspec.structs.replace(second, version=second.version + 10)
    assert (await a.refresh(ahead)).store.version == first.version + 2, "a cursor that went back stays where it is"


async def test_one_of_two_that_replace_a_generation_does(server: Real | Simulated) -> None:
    a, b = server.membership("a"), server.membership("b")
    first = (await a.refresh()).store
    await a.renew(first.generation, 40)
    second = (await b.refresh()).store
    assert second.name != first.name
    assert (second.version, second.incarnation) == (41, first.incarnation)
    await b.renew(first.generation, 90)
    assert (await a.refresh()).store == second
    assert not second.unconfirmed
    await b.renew(second.generation, 0, unconfirmed=True)
    third = (await a.refresh()).store
    assert (third.unconfirmed, third.version) == (True, 42)


async def test_a_cursor_is_saved_only_in_the_store_that_it_is_of(server: Real | Simulated) -> None:
    cursors, membership = server.cursors(), server.membership("a")
    store = (await membership.refresh()).store
    assert await cursors.advance("s", "g", "j-5", store) == "j-5"
    assert await cursors.advance("s", "g", "j-4", store) == "j-5"
    for other in (
        msgspec.structs.replace(store, version=store.version + 1),
        msgspec.structs.replace(store, generation="other"),
        msgspec.structs.replace(store, incarnation="postgres:other"),
    ):
        assert await cursors.advance("s", "g", "j-9", other) is None
    assert await cursors.read("s", "g") == "j-5"
    await membership.refresh(store)
    assert await cursors.advance("s", "g", "j-9", store) == "j-9"


async def test_the_roll_shows_who_lives(server: Real | Simulated) -> None:
    a, b = server.membership("a"), server.membership("b")
    assert (await a.refresh()).mine is None
    view = await a.declare(frozenset({"redis:1"}))
    assert (view.mine, view.peers) == (frozenset({"redis:1"}), {})
    assert view.postgres_place.startswith("postgres:")
    view = await b.declare(frozenset({"redis:1", view.postgres_place}))
    assert view.peers == {"a": frozenset({"redis:1"})}
    assert set((await a.refresh()).peers) == {"b"}
    await b.leave()
    assert (await a.refresh()).peers == {}


async def test_a_row_that_was_not_refreshed_is_gone_until_declared_again(server: Real | Simulated) -> None:
    a, b = (server.membership(t, life=LIFE) for t in "ab")
    await b.declare(frozenset({"x"}))
    await a.declare(frozenset({"x"}))
    started = time.monotonic()
    while (await a.refresh()).peers:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.02)
    assert time.monotonic() - started > LIFE / 2
    assert (await b.refresh()).mine is None
    assert (await a.refresh()).peers == {}
    assert (await b.declare(frozenset({"x"}))).mine == {"x"}


async def test_two_that_declare_at_once_see_each_other(server: Real | Simulated) -> None:
    memberships = [server.membership(t) for t in "abcdef"]
    views = await asyncio.gather(*(membership.declare(frozenset({"x"})) for membership in memberships))
    assert sorted(len(view.peers) for view in views) == [0, 1, 2, 3, 4, 5]


async def test_a_new_incarnation_lets_every_row_live_on(database: Database) -> None:
    a, b = (PostgresMembership(database, token=t, instance_id=t, life_seconds=30.0) for t in "ab")
    first = (await b.declare(frozenset({"x"}))).postgres_place
    async with database.acquire() as connection:
        await connection.execute("UPDATE unlost.listeners SET seen_at = seen_at - interval '40 seconds'")
        await connection.execute("UPDATE unlost.claims_place SET since = since - interval '1 hour'")
    assert (await a.refresh()).peers == {}
    async with database.acquire() as connection:
        await connection.execute("DELETE FROM unlost.claims_place")  # what a crash does to an unlogged table
    view = await a.refresh()
    assert set(view.peers) == {"b"}
    assert view.postgres_place != first


async def test_a_new_incarnation_lets_nobody_live_on_who_was_gone_for_long(database: Database) -> None:
    a, dead = (PostgresMembership(database, token=t, instance_id=t) for t in ("a", "dead"))
    await dead.declare(frozenset({"a Redis of then"}))
    await a.declare(frozenset({"x"}))
    async with database.acquire() as connection:
        await connection.execute("UPDATE unlost.claims_place SET since = since - interval '1 hour'")
        await connection.execute(
            "UPDATE unlost.listeners SET seen_at = seen_at - interval '70 seconds' WHERE token = 'dead'"
        )
    assert (await a.refresh()).mine == {"x"}
    async with database.acquire() as connection:
        await connection.execute("DELETE FROM unlost.claims_place")  # what a crash does to an unlogged table
    view = await a.refresh()
    assert view.peers == {}
    assert view.mine == {"x"}


async def clock_back(database: Database, *, spare: str = "") -> None:
    """PostgreSQL's clock goes back an hour, so that earlier times are an hour in the future."""
    async with database.acquire() as connection:
        hour = "interval '1 hour'"
        await connection.execute(f"UPDATE unlost.listeners SET seen_at = seen_at + {hour} WHERE token <> $1", spare)
        await connection.execute(f"UPDATE unlost.claims_place SET since = since + {hour}")
        await connection.execute(f"UPDATE unlost.claims SET until = until + {hour}")


@pytest.mark.parametrize("spare", ["", "a"])
async def test_a_clock_that_went_back_lets_nobody_live_on_longer_than_a_life(database: Database, spare: str) -> None:
    """``spare``: the listener that has refreshed its row since. Live members stay members throughout."""
    a, b, dead = (PostgresMembership(database, token=t, instance_id=t, life_seconds=0.6) for t in ("a", "b", "dead"))
    for membership in (dead, b, a):
        await membership.declare(frozenset({"x"}))
    await clock_back(database, spare=spare)
    views = await asyncio.gather(a.refresh(), b.refresh())
    assert [view.mine for view in views] == [{"x"}] * 2
    assert "dead" in views[0].peers, "a row counts from the first check on"
    async with asyncio.timeout(5):
        while "dead" in (await a.refresh()).peers:
            assert (await b.refresh()).mine == {"x"}
            await asyncio.sleep(0.05)
    assert set((await a.refresh()).peers) == {"b"}
    async with database.acquire() as connection:
        assert not await connection.fetchval("SELECT since > clock_timestamp() FROM unlost.claims_place")


async def test_a_clock_that_went_back_keeps_no_newcomer_out(database: Database) -> None:
    """It has another handler than the dead listener, whose row is an hour in the future."""
    dead = PostgresMembership(database, token="dead", instance_id="dead", life_seconds=0.4, handler="shop:one")
    new = PostgresMembership(database, token="new", instance_id="new", life_seconds=0.4, handler="shop:two")
    await dead.declare(frozenset({"x"}))
    await clock_back(database)
    async with asyncio.timeout(5):
        while not (await new.declare(frozenset({"x"}))).agreed:
            await new.refresh()
            await asyncio.sleep(0.05)
    assert (await new.refresh()).peers == {}


async def test_a_clock_that_went_back_holds_no_lease_that_nobody_asks_for(database: Database) -> None:
    """A letter is entered once no other owner's lease is valid. Meanwhile nobody asks for the event."""
    letter = Burial("held", b"d" * 32, "letter")
    owner, heir = (PostgresClaims(database, token=t, lease_seconds=0.4, window_seconds=60) for t in ("owner", "heir"))
    membership = PostgresMembership(database, token="heir", instance_id="heir")
    await membership.declare(frozenset({await owner.place()}))
    assert await owner.claim([ClaimRequest("held", letter.digest)], take_over=0) == [Won(1, 0)]
    await clock_back(database)
    register = PostgresLetterRegister(database, token="heir")
    assert await register.enter([letter]) == ["open"]
    await membership.refresh()
    async with asyncio.timeout(5):
        while await register.enter([letter]) != ["buried"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert await heir.claim([ClaimRequest("held", letter.digest)], take_over=0) == [Dead(True)]


async def test_a_probe_waits_for_the_lock_that_an_insert_waits_for(database: Database, database_url: str):
    store = store_of(database)
    await store.probe()
    locking = await asyncpg.connect(database_url)
    try:
        for mode in ("SHARE", "ACCESS EXCLUSIVE"):
            async with locking.transaction():
                await locking.execute(f"LOCK TABLE unlost.events IN {mode} MODE")
                with pytest.raises(Transient, match="did not answer in time"):
                    await store.probe()
    finally:
        await locking.close()
    await store.probe()
    assert await store.page(None, 10) == []


async def test_a_probe_is_refused_where_no_row_could_be_written(database: Database, database_url: str):
    store = store_of(database)
    admin = await asyncpg.connect(database_url)
    try:
        name = await admin.fetchval("SELECT current_database()")
        await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await database.close()
        with pytest.raises(Unavailable, match="25006"):
            await store.probe()
        await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await admin.execute("ALTER TABLE unlost.events RENAME TO elsewhere")
        await database.close()
        with pytest.raises(Unavailable, match="42P01"):
            await store.probe()
    finally:
        await admin.close()


async def test_a_probe_writes_to_the_log_so_that_its_commit_waits_for_standbys(database: Database, database_url: str):
    """A commit without writes waits for no standby, so such a probe would succeed while every insert hangs."""
    store = store_of(database)
    await store.probe()
    watching = await asyncpg.connect(database_url)
    try:
        before = await watching.fetchval("SELECT pg_current_wal_insert_lsn()")
        await store.probe()
        after = await watching.fetchval("SELECT pg_current_wal_insert_lsn()")
    finally:
        await watching.close()
    assert after != before


REDIS = frozenset(["redis"])


async def test_a_listener_with_another_handler_agrees_once_the_others_left(
    server: Real | Simulated,
) -> None:
    old, new = server.membership("old", handler="shop:one"), server.membership("new", handler="shop:two")
    assert (await old.declare(REDIS)).agreed
    view = await new.declare(REDIS)
    assert (view.agreed, view.others("shop:two")) == (False, [Member("old", "old", "shop:one")])
    assert view.share == (0, 2)
    view = await old.refresh()
    assert (view.agreed, view.others("shop:one")) == (True, [])
    assert view.share == (0, 1), "a member that is not at work has no share"
    third = await server.membership("third", handler="shop:one").declare(REDIS)
    assert third.agreed, "a member that is not at work excludes nobody"
    await old.leave()
    assert not (await new.declare(REDIS)).agreed, "the third is at work"
    assert not (await new.refresh()).agreed
    await server.membership("third").leave()
    assert not (await new.refresh()).agreed, "it must report it"
    assert (await new.declare(REDIS)).agreed
    assert not (await server.membership("old again", handler="shop:one").declare(REDIS)).agreed


async def test_a_listener_that_may_change_the_handler_works_beside_another(server: Real | Simulated) -> None:
    old, new = (
        server.membership("old", handler=None),
        server.membership("new", handler="shop:two", changes_handler=True),
    )
    assert (await old.declare(REDIS)).agreed
    assert (await new.declare(REDIS)).agreed
    assert (await old.declare(REDIS)).agreed, "an agreed member stays agreed"
    assert not (await server.membership("late", handler=None).declare(REDIS)).agreed
    await old.leave()
    assert (await server.membership("next", handler="shop:two").declare(REDIS)).agreed


async def test_a_listener_that_was_taken_for_dead_must_agree_again(server: Real | Simulated) -> None:
    old = server.membership("old", life=LIFE, handler="shop:one")
    assert (await old.declare(REDIS)).agreed
    new = server.membership("new", life=LIFE, handler="shop:two")
    while not (await new.declare(REDIS)).agreed:  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.02)
    assert (await old.refresh()).mine is None
    assert not (await old.declare(REDIS)).agreed


async def test_a_replay_keeps_no_listener_out(database: Database) -> None:
    replay = PostgresMembership(database, token="r", instance_id="r", handler="shop:two", listens=False)
    listener = PostgresMembership(database, token="a", instance_id="a", handler="shop:one")
    assert (await replay.declare(REDIS)).agreed
    assert (await listener.declare(REDIS)).agreed
    view = await replay.refresh()
    assert (view.agreed, view.members) == (True, (Member("a", "a", "shop:one"),))
    assert (await listener.refresh()).members == ()


async def test_a_row_names_the_handler_that_stored_it(database: Database) -> None:
    store = PostgresRows(database, instance_id="a", token="a", handler="shop:handle@7")
    await store.insert([row("e"), row("f")])
    await store.insert([row("alone")])
    await store_of(database).insert([row("recorded")])
    assert [shown["handler"] for shown in await store.page(None, 9)] == [None, *["shop:handle@7"] * 3]
