"""The table of effects on a real PostgreSQL: with the row or not at all, one holder at a time, in order if asked."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from unlost.listener.core.effects import Effect, Effects, key_of
from unlost.listener.core.event import parse
from unlost.listener.ports.rows import INSERTED, NewRow
from unlost.listener.store.postgres.connections import ConnectionKind, TransactionLeft
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.effects import PostgresEffects
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.postgres import PostgresServer

pytestmark = pytest.mark.database("migrated")


class Bed:
    """A group's tables, and listeners on them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.a, self.b = PostgresEffects(database, token="a"), PostgresEffects(database, token="b")

    async def store(self, event_id: str, *urls: str, in_order: bool = False, spoil: str = "", role: str = "") -> object:
        effects = Effects()
        for url in urls:
            effects.post(url, json={"id": event_id}, in_order=in_order)
        rows = PostgresRows(self.database, instance_id="a", token="a", handler_role=role)
        table = PostgresEffects(self.database, token="a", handler_role=role)

        async def work(connection: Any) -> None:
            if spoil:
                await connection.execute(spoil)
            await table.record(connection, event, effects.taken())
            if spoil == "select 1":
                raise ValueError("the handler fails after all")

        event = parse(b'{"event_id":"%b","payload":1}' % event_id.encode(), max_bytes=1_000)
        return await rows.insert_with(NewRow(event, 1, 1, 0.0), work)

    async def run(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        async with self.database.acquire() as connection:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]


@pytest.fixture
async def bed(database_url: str, kind: ConnectionKind) -> AsyncIterator[Bed]:
    database = Database(database_url, kind=kind)
    await migrate(database)
    yield Bed(database)
    await database.close()


async def taken(rows: PostgresEffects, most: int = 9, **more: Any) -> list[Effect]:
    return await rows.take(most, lease=more.pop("lease", 30.0), skip=more.pop("skip", ()), **more)


async def test_effects_are_committed_with_the_row(bed: Bed) -> None:
    assert await bed.store("e", "https://a/1", "https://b:8443/2") == INSERTED
    one, two = sorted(await taken(bed.a), key=lambda effect: effect.number)
    assert one == Effect(
        "e", 1, key_of("unlost", "e", 1), "post", "https://a/1", "a", {"content-type": "application/json"},
        b'{"id":"e"}', 0, taken_until=one.taken_until,
    )  # fmt: skip
    assert (two.number, two.host) == (2, "b:8443")


@pytest.mark.parametrize("spoil", ["select 1", "rollback", "rollback; begin"])
async def test_a_handler_that_fails_or_rolls_back_by_hand_has_no_effects(bed: Bed, spoil: str) -> None:
    with pytest.raises((ValueError, TransactionLeft)):
        await bed.store("e", "https://a/1", spoil=spoil)
    assert await bed.run("select * from unlost.effects") == []
    assert await bed.store("e", "https://a/1") == INSERTED
    assert len(await taken(bed.a)) == 1


async def test_one_listener_at_a_time_holds_an_effect_until_its_lease_ends(bed: Bed) -> None:
    await bed.store("e", "https://a/1")
    (held,) = await taken(bed.a)
    assert await taken(bed.b) == []
    assert await bed.b.revive("e", 1, lease=30) == "taken"
    await bed.run("update unlost.effects set leased_until = now() returning 1")
    (again,) = await taken(bed.b)
    assert again.key == held.key
    await bed.a.failed(held, "late", wait=99, counts=True)
    assert await bed.run("select attempts, owner from unlost.effects") == [(0, "b")], "a has lost it"
    await bed.a.delivered(held)
    await bed.b.failed(again, "no", wait=0, counts=True)
    assert await bed.run("select status, attempts from unlost.effects") == [("delivered", 1)], "whoever delivers it"


async def test_a_late_outcome_gives_back_nothing_that_the_same_listener_has_taken_anew(bed: Bed) -> None:
    await bed.store("e", "https://a/1")
    (held,) = await taken(bed.a)
    await bed.run("update unlost.effects set leased_until = now() returning 1")
    (again,) = await taken(bed.a)
    await bed.a.failed(held, "late", wait=0, counts=True)
    await bed.a.buried(held, "letter", "late")
    assert await bed.run("select status, attempts, owner from unlost.effects") == [("waiting", 0, "a")]
    assert await taken(bed.b) == [], "it is being delivered"
    await bed.a.failed(again, "no", wait=0, counts=True)
    assert await bed.run("select attempts, owner from unlost.effects") == [(1, "")]


async def test_a_failed_effect_comes_back_after_its_pause(bed: Bed) -> None:
    await bed.store("e", "https://a/1")
    (held,) = await taken(bed.a)
    await bed.a.failed(held, "a\0b", wait=60, counts=True)
    assert await taken(bed.b) == []
    assert await bed.run("select failure, attempts from unlost.effects") == [("a\ufffdb", 1)]
    await bed.run("update unlost.effects set due_at = now() returning 1")
    (held,) = await taken(bed.b)
    await bed.b.failed(held, "paused", wait=0, counts=False)
    (held,) = await taken(bed.b)
    assert held.attempts == 1


async def test_hosts_can_be_left_out_or_taken_alone(bed: Bed) -> None:
    await bed.store("e", "https://a/1", "https://b/2", "https://c/3")
    assert [one.host for one in await taken(bed.a, skip=["a", "b"])] == ["c"]
    assert [one.host for one in await taken(bed.a, only="b")] == ["b"]
    assert [one.host for one in await taken(bed.a, 1)] == ["a"]


async def test_in_order_the_next_waits_until_the_one_before_is_delivered_or_a_letter(bed: Bed) -> None:
    for event_id in ("e1", "e2", "e3"):
        await bed.store(event_id, "https://a/1?x=1", in_order=True)
    await bed.store("apart", "https://a/1")
    assert {one.event_id for one in await taken(bed.a)} == {"e1", "apart"}
    first = Effect("e1", 1, "", "post", "", "a", {}, b"", 0)
    assert await taken(bed.b) == []
    await bed.a.failed(first, "no", wait=60, counts=True)
    assert await taken(bed.b) == [], "it waits for another attempt, and so do those behind it"
    await bed.a.delivered(first)
    (second,) = await taken(bed.b)
    assert second.event_id == "e2"
    await bed.b.buried(second, "letter", "no")
    assert [one.event_id for one in await taken(bed.a)] == ["e3"]


async def test_the_effect_of_a_letter_is_taken_alone(bed: Bed) -> None:
    await bed.store("e", "https://a/1", "https://a/2")
    for one in await taken(bed.a):
        await bed.a.buried(one, f"letter {one.number}", "no")
    assert await taken(bed.b) == []
    found = await bed.b.revive("e", 2, lease=30)
    assert isinstance(found, Effect)
    assert (found.number, found.attempts) == (2, 1)
    await bed.b.delivered(found)
    assert await bed.b.revive("e", 2, lease=30) == "delivered"
    assert await bed.b.revive("gone", 1, lease=30) == "gone"


async def test_waiting_effects_are_counted_with_their_age(bed: Bed) -> None:
    assert await bed.a.waiting() == (0, 0.0)
    await bed.store("e", "https://a/1", "https://a/2")
    await bed.run("update unlost.effects set recorded_at = now() - interval '1 hour' where number = 1 returning 1")
    count, seconds = await bed.a.waiting()
    assert count == 2
    assert seconds >= 3_600


async def test_old_effects_are_deleted_once_nothing_needs_them(bed: Bed) -> None:
    await bed.store("e", *[f"https://a/{n}" for n in range(4)])
    for one in await taken(bed.a):
        if one.number == 1:
            await bed.a.delivered(one)
        if one.number in (2, 3):
            await bed.a.buried(one, f"letter {one.number}", "no")
    await bed.run("update unlost.effects set ended_at = now() - interval '1 hour' returning 1")
    await bed.run(
        """insert into unlost.letters (letter_id, instance_id, reason, error_class, stage, fingerprint, first_at,
            last_at, status)
        select 'letter ' || n, 'a', 'effect', 'transient', 'effect', 'f', now(), now(),
            case n when 2 then 'resolved' else 'open' end from generate_series(2, 3) n returning 1"""
    )
    assert await bed.a.prune(7_200) == 0
    assert await bed.a.prune(1_800) == 2
    assert await bed.run("select number from unlost.effects order by number") == [(3,), (4,)]


async def test_a_handler_with_its_own_role_may_not_touch_the_table(
    bed: Bed, postgres_server: PostgresServer, database_url: str
) -> None:
    role = f"handler_{secrets.token_hex(4)}"
    postgres_server.sql(f"create role {role};")
    administrator = await asyncpg.connect(database_url)
    try:
        await administrator.execute(f"grant create, usage on schema public to {role}")
        assert await bed.store("e", "https://a/1", spoil="create table mine (n int)", role=role) == INSERTED
        assert await administrator.fetchval("select tableowner from pg_tables where tablename = 'mine'") == role
        assert len(await taken(bed.a)) == 1
        with pytest.raises(Exception, match="permission denied"):
            await bed.store("f", spoil="insert into unlost.effects default values", role=role)
    finally:
        await administrator.execute(f"drop owned by {role}")
        await administrator.close()
        postgres_server.sql(f"drop role {role};")


async def test_operators_tools_ask_for_effects(bed: Bed) -> None:
    await bed.store("e1", "https://a/1", "https://b/2", in_order=True)
    await bed.store("e2", "https://a/3")
    first = next(one for one in await taken(bed.a) if one.event_id == "e1" and one.number == 1)
    await bed.a.failed(first, "HTTP 500", wait=5, counts=True)
    async with bed.database.acquire() as connection:
        reports = Reports(connection)
        shown = await reports.effects()
        assert [(one["event_id"], one["number"], one["status"]) for one in shown] == [
            ("e2", 1, "waiting"), ("e1", 2, "waiting"), ("e1", 1, "waiting"),
        ]  # fmt: skip
        assert (shown[2]["failure"], shown[2]["attempts"], shown[2]["in_order"]) == ("HTTP 500", 1, True)
        assert len(await reports.effects(shown[1]["seq"])) == 1
        assert len(await reports.effects(event_id="e1", limit=1)) == 1
        assert await reports.effects(status="buried") == []
        (a, b) = await reports.effects_by_host()
        assert (a["host"], a["waiting"], a["failure"], b["host"], b["failure"]) == ("a", 2, "HTTP 500", "b", None)
