"""RabbitMQ's streams: each listener reads all after the group's cursor, and what is missing is declared."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from pamqp.commands import Basic

from tests.support.brokers import GROUP, RabbitBroker, RabbitServer, RabbitStreamBroker, place, running
from tests.support.cursor_sessions import cursor_of, taken
from unlost.listener.core.errors import Transient
from unlost.listener.ports.source import Session, Source, SourceEnded
from unlost.listener.source.brokers import rabbitmq_consumer, rabbitmq_stream

SECONDS = 30
SMALL = {"max-length-bytes": 100_000, "stream-max-segment-size-bytes": 50_000}
"""Retention removes segments of such a stream soon."""


def events(count: int, first: int = 0, size: int = 0) -> list[bytes]:
    return [b'{"event_id":"e%d","payload":"%b"}' % (n, b"x" * size) for n in range(first, first + count)]


async def opened(stack: AsyncExitStack, broker: RabbitStreamBroker, source: Source | None = None) -> Session:
    source = source or broker.source()
    return await stack.enter_async_context(source.open(cursor_of(broker, source)))


async def each_listener_reads_all(broker: RabbitStreamBroker) -> None:
    await broker.publish(events(300))
    async with AsyncExitStack() as stack:
        one, other = await opened(stack, broker), await opened(stack, broker)
        for session in (one, other):
            batch = await taken(session, 300)
            assert batch.bodies == events(300)
            assert batch.cursors == [f"{broker.queue}@{n + 1}" for n in range(300)]
    assert broker.cursors.stored == f"{broker.queue}@0", "recorded at once; it moves when events are settled"


async def reading_resumes_after_the_group_s_cursor(broker: RabbitStreamBroker) -> None:
    await broker.publish(events(200))
    source = broker.source()
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        await taken(session, 200)
        session.abort()
        with pytest.raises(SourceEnded, match="reading begins again"):
            await session.take(1, 1)
    await broker.cursors.advance(source.name, GROUP, f"{broker.queue}@120")
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        assert session.opening.after == f"{broker.queue}@120"
        assert (await taken(session, 80)).bodies == events(80, first=120)
    assert broker.gaps.all == []


async def a_group_may_begin_now(broker: RabbitStreamBroker) -> None:
    await broker.publish(events(50))
    source = broker.source(start_from="now")
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        await broker.publish(events(5, first=50))
        assert (await taken(session, 5)).bodies == events(5, first=50)
    assert broker.cursors.stored == f"{broker.queue}@50"


async def a_group_begins_where_a_peer_has_recorded_it(broker: RabbitStreamBroker) -> None:
    """This listener asked before its peer recorded the beginning, and got a later message than that."""
    source = broker.source(start_from="now")
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        await broker.cursors.start(source.name, GROUP, f"{broker.queue}@2")
        await broker.publish(events(10))
        with pytest.raises(SourceEnded, match="the group begins at offset 2, not 0: reading begins there"):
            await session.take(1, 1)
    async with AsyncExitStack() as stack:
        assert (await taken(await opened(stack, broker, source), 8)).bodies == events(8, first=2)


async def what_arrived_before_the_beginning_was_recorded_comes_again(broker: RabbitStreamBroker) -> None:
    source = broker.source(start_from="now")
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        await broker.publish(events(3))
        real, broker.cursors.start = broker.cursors.start, _away  # type: ignore[method-assign]
        with pytest.raises(Transient):
            await session.take(1, 1)
    broker.cursors.start = real  # type: ignore[method-assign]
    async with AsyncExitStack() as stack:
        assert (await taken(await opened(stack, broker, source), 3)).bodies == events(3)


async def _away(source: str, group: str, cursor: str) -> str:
    raise Transient("PostgreSQL is away")


async def each_message_comes_once_and_in_order_while_the_prefetch_count_changes(broker: RabbitStreamBroker) -> None:
    for first in range(0, 1_500, 100):
        await broker.publish(events(100, first))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rabbitmq_consumer, "FIRST_AHEAD", 1)
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            assert (await taken(session, 1_500)).bodies == events(1_500)


async def an_event_without_an_id_is_known_by_its_place_and_content(broker: RabbitStreamBroker) -> None:
    sent = [b'{"payload":1}', b'{"payload":1}', b"[1]", b'{"event_id":"own"}']
    await broker.publish(sent, ids=[None, None, "x", "y"])
    ids = []
    for _ in range(2):
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            ids.append([json.loads(body)["event_id"] for body in (await taken(session, 4)).bodies])
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[0][1]
    assert ids[0][2:] == ["x", "own"]


async def a_publisher_s_header_does_not_say_where_a_message_stands(broker: RabbitStreamBroker) -> None:
    async with broker.channel() as channel:
        for body in events(2):
            properties = Basic.Properties(headers={"x-stream-offset": 7})
            await channel.basic_publish(body, routing_key=broker.queue, properties=properties)
    async with AsyncExitStack() as stack:
        assert (await taken(await opened(stack, broker), 2)).cursors == [f"{broker.queue}@{n}" for n in (1, 2)]


async def a_stream_that_does_not_exist_is_named(broker: RabbitStreamBroker) -> None:
    with pytest.raises(SourceEnded, match="there is no queue absent on"):
        async with broker.source("absent").open(cursor_of(broker, broker.source())):
            pass


async def a_queue_that_is_no_stream_is_refused(broker: RabbitStreamBroker) -> None:
    queue = RabbitBroker(broker.server, f"{broker.queue}-queue")
    await queue.make()
    with pytest.raises(SourceEnded, match="is no stream, so leave out stream=true"):
        async with broker.source(queue.queue).open(cursor_of(broker, broker.source())):
            pass


async def what_retention_removed_between_two_sessions_is_declared(broker: RabbitStreamBroker) -> None:
    source = broker.source()
    await broker.cursors.start(source.name, GROUP, f"{broker.queue}@10")
    await overtake(broker, 10)
    async with AsyncExitStack() as stack:
        oldest = await broker.oldest()
        session = await opened(stack, broker, source)
        batch = await taken(session, 1)
        again = await taken(session, 1)
    assert batch.cursors[0] == f"{broker.queue}@{oldest + 1}"
    assert broker.gaps.all == [
        ("expired", {"after": f"{broker.queue}@10", "resumed_at": f"{broker.queue}@{oldest}", "missing": oldest - 10})
    ]
    assert again.bodies


async def what_retention_removes_while_a_reader_pauses_is_declared(broker: RabbitStreamBroker) -> None:
    await broker.publish(events(20, size=300))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        await taken(session, 1)
        await overtake(broker, 2_000)
        numbers: list[int] = []
        async with asyncio.timeout(SECONDS):
            while not broker.gaps.all:
                batch = await taken(session, 1)
                numbers += [int(str(one).partition("@")[2]) - 1 for one in batch.cursors]
    ((how, fields),) = broker.gaps.all
    before, after = int(fields["after"].partition("@")[2]), int(fields["resumed_at"].partition("@")[2])
    assert (how, fields["missing"]) == ("expired", after - before)
    assert {before - 1, after} <= {*numbers, 0}
    assert not {*range(before, after)} & {*numbers}


async def overtake(broker: RabbitStreamBroker, offset: int) -> None:
    """Publish until retention has removed this offset."""
    async with asyncio.timeout(SECONDS):
        await broker.publish(events(500, size=300))
        while await broker.oldest() <= offset:
            await broker.publish(events(500, size=300))


async def a_stream_that_was_made_anew_is_refused(broker: RabbitStreamBroker) -> None:
    source = broker.source()
    await broker.cursors.start(source.name, GROUP, f"{broker.queue}@500")
    await broker.publish(events(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rabbitmq_stream, "ANSWER_SECONDS", 0.5)
        with pytest.raises(SourceEnded, match="ends before what this group has read, as if it was made anew"):
            async with source.open(cursor_of(broker, source)):
                pass


QUESTIONS: dict[Callable[[RabbitStreamBroker], Awaitable[None]], dict[str, int]] = {
    each_listener_reads_all: {},
    reading_resumes_after_the_group_s_cursor: {},
    a_group_may_begin_now: {},
    a_group_begins_where_a_peer_has_recorded_it: {},
    what_arrived_before_the_beginning_was_recorded_comes_again: {},
    each_message_comes_once_and_in_order_while_the_prefetch_count_changes: {},
    an_event_without_an_id_is_known_by_its_place_and_content: {},
    a_publisher_s_header_does_not_say_where_a_message_stands: {},
    a_stream_that_does_not_exist_is_named: {},
    a_queue_that_is_no_stream_is_refused: {},
    what_retention_removed_between_two_sessions_is_declared: SMALL,
    what_retention_removes_while_a_reader_pauses_is_declared: SMALL,
    a_stream_that_was_made_anew_is_refused: {},
}


@pytest.mark.timeout(300)  # a server of Erlang may take a minute to start beside other tests
async def test_a_stream_answers_every_question() -> None:
    """All are asked of one server, one after the other."""
    with running(RabbitServer) as server:
        for question, limits in QUESTIONS.items():
            broker = RabbitStreamBroker(server, place(question.__name__), **limits)
            await broker.make()
            await question(broker)
