"""Two producers on one journal in PostgreSQL, as behind a load balancer."""

import asyncio
import json
from collections.abc import Iterator

import asyncpg
import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from tests.end_to_end.producer.test_stream import ids_of, publish, reading


@pytest.fixture
def pair(database_url: str) -> Iterator[tuple[RunningProducer, RunningProducer]]:
    both = RunningProducer(database_url), RunningProducer(database_url)
    for one in both:
        one.start()
    yield both
    for one in both:
        if one.process.poll() is None:
            one.end()


def status(producer: RunningProducer, event_id: str, payload: int = 1) -> str:
    return str(producer.http.post("/publish", json={"event_id": event_id, "payload": payload}).json()["status"])


async def test_an_id_is_accepted_by_one_of_them_and_streamed_by_both(
    pair: tuple[RunningProducer, RunningProducer],
) -> None:
    one, two = pair
    async with reading(one) as first, reading(two) as second:
        answers = await asyncio.gather(*(asyncio.to_thread(status, each, "a") for each in pair * 4))
        assert sorted(answers) == ["accepted"] + ["duplicate"] * 7
        assert [await asyncio.to_thread(status, each, "a", 2) for each in pair] == ["conflict"] * 2
        await asyncio.gather(
            *(asyncio.to_thread(publish, each, *(f"{each.url}-{n}" for n in range(50))) for each in pair)
        )
        streamed = await ids_of(first, 101)
        assert streamed == await ids_of(second, 101)
        assert len(set(streamed)) == 101


async def test_a_client_goes_on_at_the_other_when_one_is_killed(pair: tuple[RunningProducer, RunningProducer]) -> None:
    one, two = pair
    async with reading(one) as client:
        await asyncio.to_thread(publish, one, "a")
        await asyncio.to_thread(publish, two, "b", "c")
        cursor = [json.loads(await client.recv())["cursor"] for _ in range(2)][-1]
    one.end(kill=True)
    async with reading(two, cursor) as client:
        assert client.response.headers["unlost-cursor"] == cursor
        assert "unlost-gap" not in client.response.headers
        assert await ids_of(client, 1) == ["c"]


async def test_a_journal_that_was_set_back_ends_the_producer_so_that_it_starts_anew(
    pair: tuple[RunningProducer, RunningProducer], database_url: str
) -> None:
    one, _ = pair
    cursors = await asyncio.to_thread(publish, one, "a", "b", "c")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("delete from producer_journal.entries where number > 1")
        await connection.execute("update producer_journal.head set newest = 1")
    finally:
        await connection.close()
    for each in pair:
        assert await asyncio.to_thread(each.process.wait, 20) == 1
        assert "does not continue what this producer has read" in each.process.stderr.read()
        each.process.stderr.close()
        each.http.close()
    one.start()
    await asyncio.to_thread(publish, one, "x", "y", "z")
    async with reading(one, cursors[2]) as client:
        assert client.response.headers["unlost-gap"] == cursors[2]
        assert await ids_of(client, 3) == ["x", "y", "z"]
