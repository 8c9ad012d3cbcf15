"""Declared gaps reach PostgreSQL, once each, also if it was away when they were declared."""

import asyncio
import time
from collections.abc import Sequence

import asyncpg
import pytest

from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Fact, GapNotRecorded, SourceGap
from unlost.listener.core.gap import Gap, GapTry, LastContact
from unlost.listener.source import gaps as gaps_module
from unlost.listener.source.gaps import GapRecorder
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.gaps import PostgresGaps
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.reports import Reports

pytestmark = pytest.mark.database("migrated")


class Flaky(PostgresGaps):
    """Loses the reply to the first recording."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, instance="a")
        self.calls = 0
        self.recorded = asyncio.Event()

    async def record(self, gaps: Sequence[Gap]) -> None:
        """See ``Gaps``."""
        await super().record(gaps)
        self.calls += 1
        if self.calls == 1:
            raise Transient("the reply was lost")
        self.recorded.set()


async def test_a_gap_is_recorded_once_and_what_fills_it_is_added(database_url: str, monkeypatch) -> None:
    monkeypatch.setattr(gaps_module, "AGAIN_SECONDS", 0.01)
    database = Database(database_url, connections=2)
    await migrate(database)
    facts: list[Fact] = []
    gaps = Flaky(database)
    recorder = GapRecorder(gaps, now=lambda: 1_000.0, facts=facts.append)
    running = asyncio.create_task(recorder.run())
    first = recorder.declare("feed", "sequence", after="7", resumed_at="11", missing=3)
    recorder.declare("other", "disconnected", began_at=900.0)
    assert [fact.gap.missing for fact in facts if isinstance(fact, SourceGap)] == [3, None]
    await asyncio.wait_for(gaps.recorded.wait(), 20)
    await gaps.fetched(first.gap_id, found=2, outcome=None, why="busy", wait=1.0)
    await gaps.fetched(first.gap_id, found=1, outcome="filled", why="")
    running.cancel()
    connection = await asyncpg.connect(database_url)
    try:
        reports = Reports(connection)
        found = await reports.gaps(10)
        assert (len(await reports.gaps(1)), await reports.count_gaps()) == (1, 2)
    finally:
        await connection.close()
        await database.close()
    assert {tuple(one) for one in found} == {
        ("feed", "sequence", "a", "7", "11", 3, 3, 1_000.0, 1_000.0, "filled", 0, ""),
        ("other", "disconnected", "a", None, None, None, 0, 900.0, 1_000.0, None, 0, ""),
    }


async def test_a_gap_that_all_listeners_declare_is_one_row(database_url: str) -> None:
    database = Database(database_url, connections=2)
    await migrate(database)
    recorders = [
        GapRecorder(PostgresGaps(database, instance=name), now=lambda: 1_000.0, facts=lambda _: None) for name in "abc"
    ]
    running = [asyncio.create_task(one.run()) for one in recorders]
    for one in recorders:
        for once in ("made 1 8", "made 2 8", None):  # another stream of the same name; and what each notices alone
            one.declare("nats://one/S", "expired", after="S@2", resumed_at="S@8", missing=5, once=once)
        await one.finish()
    for task in running:
        task.cancel()
    async with database.acquire() as connection:
        assert await Reports(connection).count_gaps() == 2 + len(recorders)
    await database.close()


async def test_what_comes_from_outside_is_cleaned_and_a_refused_gap_takes_no_other_along(database_url: str) -> None:
    database = Database(database_url, connections=2)
    await migrate(database)
    facts: list[Fact] = []
    recorder = GapRecorder(PostgresGaps(database, instance="a"), now=lambda: 1_000.0, facts=facts.append)
    recorder.declare("feed", "sequence", after="7", resumed_at="9", missing=1)
    recorder.declare("feed", "sequence", after="x\0y:7", resumed_at="\ud800" * 10_000, missing=10**25)
    recorder.declare("feed", "disconnected", began_at=1e300)  # PostgreSQL has no such time
    recorder.declare("feed", "silence")
    running = asyncio.create_task(recorder.run())
    await asyncio.wait_for(recorder.finish(), 20)
    running.cancel()
    async with database.acquire("looking") as connection:
        found = await Reports(connection).gaps(10)
    await database.close()
    assert sorted((gap.how, gap.after, gap.missing) for gap in found) == [
        ("sequence", "7", 1),
        ("sequence", "x\\x00y:7", None),
        ("silence", None, None),
    ]
    assert max(len(gap.resumed_at or "") for gap in found) <= gaps_module.LONGEST_POSITION
    assert [fact.count for fact in facts if isinstance(fact, GapNotRecorded)] == [1]


async def test_the_last_contact_of_each_listener_is_kept_with_any_names(database_url: str) -> None:
    database = Database(database_url, connections=2)
    await migrate(database)
    one, other, third = (PostgresGaps(database, instance="same name") for _ in range(3))
    numbers = {"BTC-USD": 7, "a\0\ud800 '\"": -3, "": 2**62}
    try:
        assert await one.contacts("feed") == []
        await one.keep_contact("feed", LastContact(60.0, 50.0, {"x": 1}))
        await one.keep_contact("feed", LastContact(30.0, 20.0, numbers))
        await other.keep_contact("feed", LastContact(0.0, 0.0, None))
        assert len(await one.contacts("feed")) == 1, "its own is not among them"
        assert await third.contacts("other") == []
        found = sorted(await third.contacts("feed"), key=lambda contact: contact.heard_ago)
        assert [contact.numbers for contact in found] == [None, numbers]
        assert 20.0 <= found[1].connected_ago < 30.0 <= found[1].heard_ago < 40.0
        assert time.time() - 60.0 < found[1].heard_at < time.time()
        await one.keep_contact("feed", LastContact(900.0, 900.0, numbers))
        await other.keep_contact("feed", LastContact(0.0, 0.0, None))
        assert len(await third.contacts("feed")) == 1, "a listener that is long gone is forgotten"
    finally:
        await database.close()


async def test_a_group_fetches_one_gap_of_a_source_at_a_time(database_url: str) -> None:
    """Each listener keeps the pause between two calls. Together they must not ask more often."""
    database = Database(database_url, connections=8)
    await migrate(database)
    listeners = [PostgresGaps(database, instance=name) for name in "abcd"]
    now = float(int(time.time()))
    await listeners[0].record(
        [
            Gap(f"g{number}", source, "disconnected", None, None, None, now - 60.0, now - 50.0 + number)
            for number, source in enumerate(["feed"] * 5 + ["other"])
        ]
    )
    try:
        takes = [one.take("feed", after=0.0, lease=60.0) for one in listeners * 2]
        taken = [work.gap.gap_id for work in await asyncio.gather(*takes) if work is not None]
        assert taken == ["g0"]
        other = await listeners[1].take("other", after=0.0, lease=60.0)
        assert other is not None
        await listeners[0].keep("g0", lease=60.0)
        assert await listeners[1].take("feed", after=0.0, lease=60.0) is None
        await listeners[0].fetched("g0", found=0, outcome=None, why="429", wait=60.0)
        following = await listeners[1].take("feed", after=0.0, lease=0.0)
        assert following is not None
        assert following.gap.gap_id == "g1", "the first one waits, and nobody fetches it"
        again = await listeners[2].take("feed", after=0.0, lease=60.0)
        assert again is not None, "the lease has ended"
    finally:
        await database.close()


async def test_a_gap_is_taken_by_one_listener_at_a_time_and_again_after_its_lease(database_url: str) -> None:
    database = Database(database_url, connections=4)
    await migrate(database)
    one, other = PostgresGaps(database, instance="a"), PostgresGaps(database, instance="b")
    now = float(int(time.time()))  # PostgreSQL keeps microseconds
    mine = Gap("g1", "feed", "sequence", "x:7", "x:11", 3, now - 60.0, now - 50.0)
    young = Gap("g2", "feed", "disconnected", None, None, None, now, now)
    await one.record([mine, young, Gap("g3", "other", "silence", None, None, None, 0.0, 0.0)])
    try:
        taken = await asyncio.gather(*(gaps.take("feed", after=30.0, lease=60.0) for gaps in (one, other) * 4))
        assert [work for work in taken if work is not None] == [GapTry(mine, 1)]
        await other.fetched("g1", found=1, outcome=None, why="429", wait=0.0)
        assert await other.take("feed", after=30.0, lease=0.0) == GapTry(mine, 2)
        assert await one.take("feed", after=30.0, lease=60.0) == GapTry(mine, 3), "its lease has ended"
        await one.fetched("g1", found=2, outcome="partly", why="pages")
        await other.fetched("g1", found=0, outcome=None, why="a listener that was frozen until now")
        await other.fetched("g1", found=0, outcome="failed", why="the same, later")
        assert await one.take("feed", after=30.0, lease=60.0) is None
        assert await one.take("feed", after=0.0, lease=60.0) == GapTry(young, 1)
        async with database.acquire("looking") as connection:
            found = await connection.fetchrow(
                "select backfilled, outcome, why, fetches from unlost.gaps where gap_id = 'g1'"
            )
        assert found is not None
        assert tuple(found) == (3, "partly", "pages", 3)
    finally:
        await database.close()
