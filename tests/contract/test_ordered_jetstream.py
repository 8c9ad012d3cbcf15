"""JetStream in order: each listener reads all after the group's cursor, and what is missing is declared."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from nats.js.api import RetentionPolicy

from tests.support.brokers import GROUP, OrderedJetStreamBroker, place, running
from tests.support.cursor_sessions import cursor_of, taken
from unlost.listener.ports.source import Session, Source, SourceEnded
from unlost.listener.source.brokers import jetstream_ordered, jetstream_pulls
from unlost.ops.system.nats import NatsServer

SECONDS = 20


def events(count: int, first: int = 0) -> list[bytes]:
    return [b'{"event_id":"e%d","payload":%d}' % (n, n) for n in range(first, first + count)]


async def opened(stack: AsyncExitStack, broker: OrderedJetStreamBroker, source: Source | None = None) -> Session:
    """Open a session as a reader does that begins with the oldest message."""
    source = source or broker.source()
    if await broker.cursors.read(source.name, GROUP) is None:
        async with source.open(cursor_of(broker, source)) as session:
            assert session.opening.oldest is not None
            await broker.cursors.start(source.name, GROUP, session.opening.oldest)
    return await stack.enter_async_context(source.open(cursor_of(broker, source)))


async def each_listener_reads_all(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(300))
    async with AsyncExitStack() as stack:
        one, other = await opened(stack, broker), await opened(stack, broker)
        for session in (one, other):
            batch = await taken(session, 300)
            assert batch.bodies == events(300)
            assert batch.cursors == [f"{broker.stream}@{n + 2}" for n in range(300)]


async def reading_resumes_after_the_group_s_cursor(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(200))
    source = broker.source()
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        await taken(session, 200)
        session.abort()
        with pytest.raises(SourceEnded, match="reading begins again"):
            await session.take(1, 1)
    await broker.cursors.advance(source.name, GROUP, f"{broker.stream}@121")
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        assert session.opening.after == f"{broker.stream}@121"
        assert (await taken(session, 80)).bodies == events(80, first=120)
    assert broker.gaps.all == []


async def a_group_may_begin_now(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(50))
    source = broker.source()
    async with source.open(cursor_of(broker, source)) as session:
        assert (session.opening.oldest, session.opening.newest) == (f"{broker.stream}@1", f"{broker.stream}@51")
        await broker.cursors.start(source.name, GROUP, f"{broker.stream}@51")
    await broker.publish(events(5, first=50))
    async with AsyncExitStack() as stack:
        assert (await taken(await opened(stack, broker, source), 5)).bodies == events(5, first=50)


async def an_empty_stream_begins_with_its_first_message(broker: OrderedJetStreamBroker) -> None:
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker)
        await broker.publish(events(3))
        assert (await taken(session, 3)).bodies == events(3)


async def an_event_without_an_id_is_known_by_its_place(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(
        [b'{"payload":1}', b'{"payload":1}', b"[1]", b'{"event_id":"own"}'], ids=[None, None, "x", "y"]
    )
    ids = []
    for _ in range(2):
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            ids.append([json.loads(body)["event_id"] for body in (await taken(session, 4)).bodies])
    assert ids[0] == ids[1]
    assert ids[0][0] != ids[0][1]
    assert ids[0][2:] == ["x", "own"]


async def a_stream_that_does_not_exist_is_named(broker: OrderedJetStreamBroker) -> None:
    with pytest.raises(SourceEnded, match="there is no stream absent on"):
        async with broker.source("absent").open(cursor_of(broker, broker.source())):
            pass


async def a_stream_that_forgets_what_others_read_is_refused(broker: OrderedJetStreamBroker) -> None:
    with pytest.raises(SourceEnded, match=r"forgets what its consumers have read .* leave out ordered=true"):
        async with broker.source().open(cursor_of(broker, broker.source())):
            pass


async def what_the_limits_removed_between_two_sessions_is_declared(broker: OrderedJetStreamBroker) -> None:
    source = broker.source()
    await broker.cursors.start(source.name, GROUP, f"{broker.stream}@11")
    await broker.publish(events(200))
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        dropped = session.opening.dropped
        assert dropped is not None
        assert dropped[:3] == (90, f"{broker.stream}@11", f"{broker.stream}@101")
        assert (await taken(session, 100)).bodies == events(100, first=100)
    assert broker.gaps.all == [], "the reader declares it"


async def what_the_limits_remove_while_a_reader_pauses_is_declared(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jetstream_pulls, "AHEAD", 10)
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            await taken(session, 1)
            await broker.publish(events(500, first=100))
            numbers: list[int] = []
            async with asyncio.timeout(SECONDS):
                while not broker.gaps.all:
                    numbers += [int(str(one).partition("@")[2]) - 1 for one in (await taken(session, 1)).cursors]
    ((how, fields),) = broker.gaps.all
    before, after = int(fields["after"].partition("@")[2]), int(fields["resumed_at"].partition("@")[2])
    assert (how, fields["missing"]) == ("expired", after - before)
    assert {before - 1, after} <= {*numbers, *range(1, 101)}
    assert not {*range(before, after)} & {*numbers}


async def what_was_deleted_by_hand_is_no_gap(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(10))
    async with broker.client() as client:
        await client.jsm().delete_msg(broker.stream, 5)
    async with AsyncExitStack() as stack:
        batch = await taken(await opened(stack, broker), 9)
    assert batch.bodies == events(4) + events(5, first=5)
    assert broker.gaps.all == []


async def a_stream_that_was_made_anew_is_refused(broker: OrderedJetStreamBroker) -> None:
    source = broker.source()
    await broker.cursors.start(source.name, GROUP, f"{broker.stream}@500")
    await broker.publish(events(10))
    with pytest.raises(SourceEnded, match="ends at 10, before what this group has read, as if it was made anew"):
        async with source.open(cursor_of(broker, source)):
            pass


async def a_session_ends_with_its_server_and_the_next_one_reads_on(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(20))
    source = broker.source()
    async with AsyncExitStack() as stack:
        session = await opened(stack, broker, source)
        await taken(session, 20)
        await broker.cut()
        async with asyncio.timeout(SECONDS):
            with pytest.raises(SourceEnded):
                await session.take(1, 1)
    await broker.cursors.advance(source.name, GROUP, f"{broker.stream}@16")
    async with AsyncExitStack() as stack:
        assert (await taken(await opened(stack, broker, source), 5)).bodies == events(5, first=15)


async def a_consumer_lives_no_longer_than_its_session(broker: OrderedJetStreamBroker) -> None:
    async with AsyncExitStack() as stack:
        await opened(stack, broker)
    async with broker.client() as client:
        assert await client.jsm().consumers_info(broker.stream) == []


async def a_delivery_that_did_not_arrive_is_read_again(broker: OrderedJetStreamBroker) -> None:
    await broker.publish(events(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jetstream_ordered, "Pulls", Losing)
        async with AsyncExitStack() as stack:
            session = await opened(stack, broker)
            with pytest.raises(SourceEnded, match="delivery 3 of JetStream did not arrive"):
                await taken(session, 10)


class Losing(jetstream_pulls.Pulls):
    """Loses the third message."""

    async def take(self, most: int, size: int) -> list[Any]:
        taken = await super().take(most, size)
        return [one for one in taken if one.metadata.sequence.consumer != 3]


SMALL: dict[str, Any] = {"max_msgs": 100}
QUESTIONS: dict[Callable[[OrderedJetStreamBroker], Awaitable[None]], dict[str, Any]] = {
    each_listener_reads_all: {},
    reading_resumes_after_the_group_s_cursor: {},
    a_group_may_begin_now: {},
    an_empty_stream_begins_with_its_first_message: {},
    an_event_without_an_id_is_known_by_its_place: {},
    a_stream_that_does_not_exist_is_named: {},
    a_stream_that_forgets_what_others_read_is_refused: {"retention": RetentionPolicy.WORK_QUEUE},
    what_the_limits_removed_between_two_sessions_is_declared: SMALL,
    what_the_limits_remove_while_a_reader_pauses_is_declared: SMALL,
    what_was_deleted_by_hand_is_no_gap: {},
    a_stream_that_was_made_anew_is_refused: {},
    a_delivery_that_did_not_arrive_is_read_again: {},
    a_consumer_lives_no_longer_than_its_session: {},
    a_session_ends_with_its_server_and_the_next_one_reads_on: {},
}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.__name__)
async def test_a_stream_in_order(question: Callable[[OrderedJetStreamBroker], Awaitable[None]]) -> None:
    with running(NatsServer) as server:
        broker = OrderedJetStreamBroker(server, place(question.__name__), **QUESTIONS[question])
        await broker.make()
        await question(broker)
