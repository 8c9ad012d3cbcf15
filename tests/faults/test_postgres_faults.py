"""A listener while PostgreSQL is away, frozen or crashed: rows and letters come out right, and it comes back."""

import uuid
from pathlib import Path

import pytest

from listener.facts import AttemptFailed, BreakerMoved, EventBuried, EventsStandBy, EventsStored, PlacesDeclared
from ops.local.ports import free_port
from ops.local.postgres import PostgresServer
from tests.support.frail import Frail
from tests.support.handlers import HOLD, RUNS
from tests.support.law import assert_law, letters_in
from tests.support.listeners import Heard, RunningListener, running_listener, until_among
from tests.support.stream import ResumingSource, resuming_source

PATIENT = {"insert_attempts": "100", "insert_delay": "0.1"}


@pytest.fixture
def servers(redis_url: str, frail_postgres: Frail[PostgresServer], tmp_path: Path) -> dict:
    RUNS.forget()
    database_url = frail_postgres.server.create_database(f"test_{uuid.uuid4().hex[:12]}")
    return {
        "redis_url": redis_url, "database_url": database_url, "directory": tmp_path, "handler": HOLD,
        "database_timeout": "1",
    }  # fmt: skip


def ids(stem: str, count: int) -> list[str]:
    return [f"{stem}{number}" for number in range(count)]


def open_breaker(heard: Heard) -> bool:
    moves = [fact.state for fact in heard.of(BreakerMoved) if fact.name == "postgres"]
    return bool(moves) and moves[-1] == "open"


async def with_some_held(source: ResumingSource, one: RunningListener) -> None:
    """Ten events are stored, and five handlers are at work."""
    await source.publish(*ids("before", 10), *ids("held", 5))
    await one.heard.until(lambda h: len(h.ids(EventsStored)) == 10 and len(RUNS.begun) == 15)


async def stored_or_buried(one: RunningListener, count: int) -> None:
    await one.heard.until(lambda h: len(h.ids(EventsStored)) + len(h.of(EventBuried)) == count)


async def test_stopped_for_longer_than_all_attempts_it_costs_letters_for_what_was_in_flight_alone(
    servers: dict, frail_postgres: Frail[PostgresServer]
):
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers, insert_attempts="2") as one,
    ):
        await with_some_held(source, one)
        await frail_postgres.stop()
        await one.heard.until(open_breaker)
        await source.publish(*ids("during", 50))
        RUNS.go_on.set()
        await one.heard.until(lambda h: len(h.of(EventBuried)) == 5)
        assert not one.daemon.health().is_ready
        await frail_postgres.start()
        await source.publish(*ids("after", 10))
        await stored_or_buried(one, 75)
    letters = letters_in(servers["directory"])
    assert {letter.event_id for letter in letters} == set(ids("held", 5))
    assert {(letter.reason, letter.error_class, letter.stage) for letter in letters} == {
        ("exhausted", "transient", "store")
    }
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert sorted(RUNS.begun) == sorted(source.event_ids)


@pytest.mark.parametrize("harm", ["stopped", "frozen", "killed"])
async def test_away_for_less_than_all_attempts_it_costs_no_letter_and_no_second_run(
    servers: dict, frail_postgres: Frail[PostgresServer], harm: str
):
    do, undo = {
        "stopped": (frail_postgres.stop, frail_postgres.start),
        "frozen": (frail_postgres.freeze, frail_postgres.thaw),
        "killed": (frail_postgres.kill, frail_postgres.start),
    }[harm]
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **servers, **PATIENT) as one,
    ):
        await with_some_held(source, one)
        await do()
        RUNS.go_on.set()
        await source.publish(*ids("during", 50))
        await one.heard.until(lambda h: open_breaker(h) and any(f.stage == "store" for f in h.of(AttemptFailed)))
        await undo()
        await source.publish(*ids("after", 10))
        await stored_or_buried(one, 75)
    assert letters_in(servers["directory"]) == []
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert sorted(RUNS.begun) == sorted(source.event_ids)


async def test_killed_while_it_keeps_the_claims_it_forgets_them_and_nothing_runs_twice(
    servers: dict, frail_postgres: Frail[PostgresServer]
):
    no_redis = {"redis_url": f"redis://127.0.0.1:{free_port()}/0", "startup_attempts": "1"}
    same = {**servers, **no_redis, **PATIENT, "lease": "10"}
    async with (
        resuming_source() as source,
        running_listener(ws_url=source.url, **same) as one,
        running_listener(ws_url=source.url, **same, instance_id="b") as two,
    ):
        both = (one, two)

        def stored() -> int:
            return sum(len(each.heard.ids(EventsStored)) for each in both)

        await source.publish(*ids("before", 10), *ids("held", 5))
        await until_among(both, lambda: stored() == 10 and len(RUNS.begun) == 15)
        await until_among(both, lambda: sum(len(set(each.heard.ids(EventsStandBy))) for each in both) >= 5)
        forgotten = {place for each in both for place in each.heard.of(PlacesDeclared)[-1].places}
        await frail_postgres.kill()
        await source.publish(*ids("during", 50))
        for each in both:
            await each.heard.until(open_breaker)
        await frail_postgres.start()
        for each in both:
            await each.heard.until(lambda h: not forgotten & set(h.of(PlacesDeclared)[-1].places))
        await until_among(both, lambda: stored() == 60)
        RUNS.go_on.set()
        await until_among(both, lambda: stored() == 65)
    await assert_law(servers["database_url"], servers["directory"], source.event_ids)
    assert sorted(RUNS.begun) == sorted(source.event_ids)
