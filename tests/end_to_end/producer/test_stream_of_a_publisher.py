"""``stream`` of both publishers: in order, bounded, and nothing lost where answers are lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.producer.conftest import RunningProducer
from tests.end_to_end.producer.test_client import listed, swallowing_answers
from unlost import Publisher, PublishInDoubt, PublishUnavailable, SyncPublisher
from unlost.producer.client.conversation import LINES

FIVE_THOUSAND = [f"e{number}" for number in range(5_000)]


def numbered(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"event_id": f"e{number}", "payload": number}


class Taken:
    """Events that say how many were taken."""

    def __init__(self, count: int) -> None:
        self.count = 0
        self._most = count

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        for event in numbered(self._most):
            self.count += 1
            yield event


async def test_outcomes_come_in_order_and_few_events_are_taken_ahead(producer: RunningProducer) -> None:
    taken = Taken(5_000)
    ids: list[str] = []
    async with Publisher(producer.url) as publisher:
        async for published in publisher.stream(taken):
            assert published.status == "accepted"
            ids.append(published.event_id)
            assert taken.count - len(ids) <= 2 * LINES
    assert ids == FIVE_THOUSAND
    assert listed(producer) == FIVE_THOUSAND[:1_000], "the journal's first page"


async def test_an_event_does_not_wait_for_the_next_one(producer: RunningProducer) -> None:
    settled = asyncio.Semaphore(1)

    async def one_after_another() -> AsyncIterator[dict[str, Any]]:
        for event in numbered(20):
            await settled.acquire()
            yield event

    async with Publisher(producer.url) as publisher:
        async for _ in publisher.stream(one_after_another()):
            settled.release()
    assert listed(producer) == FIVE_THOUSAND[:20]


async def test_a_producer_that_is_away_holds_the_events_up(producer: RunningProducer) -> None:
    taken = Taken(20_000)
    producer.end()
    async with Publisher(producer.url) as publisher:
        counting = asyncio.create_task(collected(publisher, taken))
        async with asyncio.timeout(20):
            while taken.count <= LINES:  # noqa: ASYNC110  the events know nobody
                await asyncio.sleep(0.01)
        producer.settings["PORT"] = str(urlsplit(producer.url).port)
        most = taken.count
        await asyncio.to_thread(producer.start)
        statuses = await counting
    assert most <= 2 * LINES + 1
    assert statuses == ["accepted"] * 20_000


async def collected(publisher: Publisher, events: Any) -> list[str]:
    return [published.status async for published in publisher.stream(events)]


async def test_publishing_events_in_doubt_again_doubles_nothing(producer: RunningProducer) -> None:
    async with swallowing_answers(producer, 10**6) as url, Publisher(url, timeout=0.5) as publisher:
        with pytest.raises(PublishInDoubt) as doubt:
            await collected(publisher, Taken(3_000))
    left = doubt.value.left
    assert [one["event_id"] for one in left] == FIVE_THOUSAND[: len(left)]
    assert listed(producer)[0] == "e0", "it was published, and nobody knew"
    async with Publisher(producer.url) as publisher:
        ended = [one async for one in publisher.stream(left)]
    assert {one.status for one in ended} <= {"accepted", "duplicate"}
    assert listed(producer) == FIVE_THOUSAND[:1_000][: len(left)]


async def test_an_error_of_the_input_is_raised_after_the_outcomes_before(producer: RunningProducer) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from numbered(700)
        raise ValueError("no more")

    ids: list[str] = []

    async def collect(publisher: Publisher) -> None:
        async for one in publisher.stream(failing()):
            ids.append(one.event_id)

    async with Publisher(producer.url) as publisher:
        with pytest.raises(ValueError, match="no more"):
            await collect(publisher)
    assert ids == FIVE_THOUSAND[:700]


async def test_a_stream_that_is_closed_early_leaves_no_task_behind(producer: RunningProducer) -> None:
    before = asyncio.all_tasks()
    async with Publisher(producer.url) as publisher:
        stream = publisher.stream(Taken(100_000))
        assert (await anext(stream)).event_id == "e0"
        await stream.aclose()
    assert asyncio.all_tasks() == before


def test_a_publisher_that_blocks_takes_a_part_at_a_time(producer: RunningProducer) -> None:
    taken: list[str] = []

    def events() -> Iterator[dict[str, Any]]:
        for event in numbered(1_200):
            taken.append(event["event_id"])
            yield event

    ids = []
    with SyncPublisher(producer.url) as publisher:
        for published in publisher.stream(events(), at_once=100):
            ids.append(published.event_id)
            assert len(taken) - len(ids) < 100
    assert ids == taken == FIVE_THOUSAND[:1_200]
    producer.end()
    with SyncPublisher(producer.url, timeout=0.3) as publisher, pytest.raises(PublishUnavailable) as away:
        list(publisher.stream(numbered(10), at_once=4))
    assert [one["event_id"] for one in away.value.left] == FIVE_THOUSAND[:4]


async def test_the_error_has_every_event_taken_while_the_producer_is_away(producer: RunningProducer) -> None:
    events = numbered(10_000)
    producer.end()
    async with Publisher(producer.url, timeout=0.5) as publisher:
        with pytest.raises(PublishUnavailable) as away:
            await collected(publisher, events)
    ids = [one["event_id"] for one in (*away.value.left, *events)]
    assert len(away.value.left) > LINES
    assert ids == [f"e{number}" for number in range(10_000)]


BAD: list[Any] = [{"event_id": "bad", "payload": object()}, ValueError("no more")]


def ending_with(bad: Any) -> Iterator[dict[str, Any]]:
    """Seven events, then one that is bad, or an error."""
    yield from numbered(7)
    if isinstance(bad, Exception):
        raise bad
    yield bad


@pytest.mark.parametrize("bad", BAD, ids=["unwritable", "raises"])
async def test_events_before_a_bad_one_are_published_and_reported(producer: RunningProducer, bad: Any) -> None:
    ids: list[str] = []

    async def collect(publisher: Publisher) -> None:
        async for one in publisher.stream(ending_with(bad)):
            ids.append(one.event_id)

    async with Publisher(producer.url) as publisher:
        with pytest.raises((TypeError, ValueError)):
            await collect(publisher)
    assert ids == listed(producer) == FIVE_THOUSAND[:7]


@pytest.mark.parametrize("bad", BAD, ids=["unwritable", "raises"])
def test_events_before_a_bad_one_are_published_by_one_that_blocks_too(producer: RunningProducer, bad: Any) -> None:
    ids: list[str] = []
    with SyncPublisher(producer.url) as publisher, pytest.raises((TypeError, ValueError)):
        ids.extend(one.event_id for one in publisher.stream(ending_with(bad), at_once=5))
    assert ids == listed(producer) == FIVE_THOUSAND[:7]


@pytest.mark.parametrize("bad", BAD, ids=["unwritable", "raises"])
async def test_a_bad_event_is_named_as_the_cause_where_those_before_it_are_left(
    producer: RunningProducer, bad: Any
) -> None:
    producer.end()
    async with Publisher(producer.url, timeout=0.3) as publisher:
        with pytest.raises(PublishUnavailable) as away:
            await collected(publisher, ending_with(bad))
    with SyncPublisher(producer.url, timeout=0.3) as blocking, pytest.raises(PublishUnavailable) as away_too:
        list(blocking.stream(ending_with(bad)))
    for error in (away.value, away_too.value):
        assert [one["event_id"] for one in error.left] == FIVE_THOUSAND[:7]
        assert isinstance(error.__cause__, TypeError | ValueError)
