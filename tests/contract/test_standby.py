"""A synchronous standby and its promotion, on a real pair: nothing that was acknowledged is missing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from tests.support.servers import SMALL, running_pair
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.core.claim import ClaimRequest, Done, Won
from unlost.listener.core.errors import Transient, Unavailable
from unlost.listener.core.event import parse
from unlost.listener.core.store_mark import change
from unlost.listener.fast.pool import FAST
from unlost.listener.ports.rows import INSERTED, SAME_ROW, NewRow
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.pages import Pages
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.postgres_pair import PostgresPair


@pytest.fixture
def pair() -> Iterator[PostgresPair]:
    with running_pair() as pair:
        yield pair


@pytest.fixture
async def database(pair: PostgresPair) -> AsyncIterator[Database]:
    database = Database(pair.url, timeout=1.0, kind=FAST)
    try:
        await migrate(database)
    except BaseException:
        await database.close()
        raise
    yield database
    await database.close()


@pytest.fixture
async def standby(pair: PostgresPair) -> AsyncIterator[Database]:
    standby = Database(pair.standby.url, timeout=1.0)
    yield standby
    await standby.close()


def row(number: int) -> NewRow:
    return NewRow(parse(b'{"event_id":"e%d","payload":{}}' % number, max_bytes=1000), 1, 1, 0.0)


async def test_acknowledged_rows_and_claims_survive_the_primary(pair: PostgresPair, database: Database) -> None:
    rows = PostgresRows(database, instance_id="i", token="t")
    claims = PostgresClaims(database, token="a", lease_seconds=30, window_seconds=600)
    membership = PostgresMembership(database, token="a", instance_id="i")
    before = (await membership.refresh()).store
    await claims.place()
    assert await claims.claim([ClaimRequest("held", bytes(32))], take_over=0) == [Won(1, 0)]
    assert await rows.insert([row(n) for n in range(100)]) == [INSERTED] * 100

    pair.standby.freeze()  # so no commit is acknowledged any more
    with pytest.raises(Transient):
        await rows.insert([row(100)])
    with pytest.raises(Transient):
        await rows.probe()
    pair.standby.thaw()
    await rows.probe()
    pair.primary.kill()
    with pytest.raises(Transient):
        await rows.probe()
    with pytest.raises(Unavailable, match="None of the hosts match"):  # a standby is not written to
        await rows.probe()
    pair.promote()

    assert (await rows.insert([row(n) for n in range(101)]))[:100] == [INSERTED] * 100, (
        "they are ours, as the token says"
    )
    others = PostgresRows(database, instance_id="i", token="another")
    assert await others.insert([row(n) for n in range(101)]) == [SAME_ROW] * 101
    with pytest.raises(Transient):  # it is meant for the claims that are gone
        await claims.claim([ClaimRequest("held", bytes(32))], take_over=0)
    after = (await membership.refresh()).store
    assert change(before, after) == "other", "the claims, which are unlogged, are gone, and nothing else"
    assert after.version >= before.version
    assert await claims.claim([ClaimRequest("held", bytes(32))], take_over=0) == [Won(1, 0)]
    (answer,) = await claims.claim([ClaimRequest("e1", row(1).event.digest)], take_over=0)
    assert isinstance(answer, Done)


async def test_pages_come_from_the_standby_and_say_how_old_they_are(
    pair: PostgresPair, database: Database, standby: Database
) -> None:
    rows = PostgresRows(database, instance_id="i", token="t")
    await rows.insert([row(n) for n in range(3)])
    pages, alone = Pages(rows, standby), Pages(rows, None)
    async with asyncio.timeout(10):
        while True:  # it may be behind, or so slow that the primary is read
            page = await pages.page(None, 2)
            if page.behind_seconds is not None and page.rows == (await alone.page(None, 2)).rows:
                break
    assert [one["event_id"] for one in page.rows] == ["e2", "e1"]
    assert 0 <= page.behind_seconds < 60
    assert (await alone.page(None, 1)).behind_seconds is None
    pair.standby.freeze()
    instead = await pages.page(None, 2)
    pair.standby.thaw()
    assert instead == (page.rows, None), "without it, the primary is read"


async def count(pair: PostgresPair, *, adds: str = "") -> int:
    connection = await asyncpg.connect(pair.url, timeout=5)
    try:
        if adds:
            await connection.execute("insert into kept values ($1)", adds, timeout=10)
        return int(await connection.fetchval("select count(*) from kept", timeout=10))
    finally:
        await connection.close()


async def test_a_former_primary_is_made_anew_and_may_lead_again(pair: PostgresPair) -> None:
    first = pair.primary
    first.sql("create table kept (name text)", "unlost")
    pair.standby.freeze()
    with contextlib.suppress(TimeoutError):  # written, and acknowledged to nobody
        await asyncio.wait_for(count(pair, adds="unacknowledged"), 1)
    pair.standby.thaw()
    first.kill()

    pair.promote()
    assert not pair.is_followed
    before = await count(pair, adds="after the first promotion")
    pair.follow()
    assert (pair.standby, pair.is_followed) == (first, True)
    pair.primary.kill()
    pair.promote()
    assert pair.primary is first
    assert await count(pair, adds="after the second") == before + 1
    pair.follow()


async def test_the_leading_server_is_known_after_a_restart(pair: PostgresPair) -> None:
    pair.primary.sql("create table kept (name text)", "unlost")
    pair.primary.kill()
    pair.promote()
    assert await count(pair, adds="one") == 1
    pair.stop()

    again = PostgresPair(pair.primary.cluster.parent.parent, options=SMALL)  # the new primary has another port
    try:
        again.start()
        assert again.primary.cluster.parent.name == "standby"
        assert await count(again, adds="two") == 2
        again.standby.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(count(again, adds="three"), 1)
        again.standby.thaw()
    finally:
        again.stop()


async def test_a_promotion_that_was_cut_off_is_carried_out_at_the_next_start(
    pair: PostgresPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.primary.sql("create table kept (name text)", "unlost")
    assert await count(pair, adds="one") == 1
    pair.primary.kill()
    monkeypatch.setattr(PostgresServer, "sql", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        pair.promote()
    monkeypatch.undo()
    pair.stop()

    again = PostgresPair(pair.primary.cluster.parent.parent, options=SMALL)
    try:
        again.start()
        assert await count(again, adds="two") == 2
    finally:
        again.stop()
