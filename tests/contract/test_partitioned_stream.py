"""The stream in partitions, of a real producer, with the cursors in a real PostgreSQL."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field

import pytest

from tests.end_to_end.producer.conftest import RunningProducer, producer  # noqa: F401  a fixture
from unlost.listener.core.watermark import Position
from unlost.listener.ports.source import Batch, Receipt, SessionOver, SourceEnded
from unlost.listener.source.stream.partitioned import GroupProgress, PartitionedStream, PartitionSession
from unlost.listener.source.stream.partitions import COUNT, partition_of, row_of
from unlost.listener.source.stream.stream import StreamOptions
from unlost.listener.source.websocket.connection import Connection, WebSocketOptions
from unlost.listener.source.websocket.messages import open_messages
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database

pytestmark = pytest.mark.database("migrated")

GROUP, SOURCE = "unlost", "stream"
EVENTS = [f"e{number}" for number in range(300)]


@dataclass
class Group:
    """A producer, the cursors of a group, and its members."""

    producer: RunningProducer
    cursors: PostgresCursors
    members: set[str] = field(default_factory=lambda: {"a", "b"})

    def source(self, name: str) -> PartitionedStream:
        def members() -> tuple[str, Collection[str]]:
            return name, self.members - {name}

        progress = GroupProgress(self.cursors, GROUP, lambda: None, members)
        return PartitionedStream(StreamOptions(self.producer.stream, SOURCE), progress, declare=lambda *_, **__: None)

    async def publish(self, *event_ids: str) -> str:
        body = "\n".join(json.dumps({"event_id": one, "payload": 1}) for one in event_ids)
        answer = await asyncio.to_thread(self.producer.http.post, "/publish/batch", content=body)
        cursor: str = json.loads(answer.text.splitlines()[-1])["cursor"]
        return cursor

    async def cursor(self) -> str | None:
        return await self.cursors.read(SOURCE, GROUP)


@pytest.fixture
async def group(producer: RunningProducer, database_url: str) -> AsyncIterator[Group]:  # noqa: F811
    database = Database(database_url, group=GROUP)
    one = Group(producer, PostgresCursors(database))
    first = await one.publish("before")
    await one.cursors.start(SOURCE, GROUP, first)
    yield one
    await database.close()


async def nowhere() -> str | None:
    return None


async def all_of(session: PartitionSession, count: int) -> tuple[list[bytes], list[Receipt]]:
    """Take so many events, and return them with their receipts."""
    bodies, receipts = list[bytes](), list[Receipt]()
    while len(bodies) < count:
        batch = await session.take(100, 100_000)
        assert isinstance(batch, Batch)
        assert not any(batch.cursors), "a cursor would move the group's, past what others read"
        assert sum(many for many, _ in batch.receipts) == len(batch.bodies)
        bodies += batch.bodies
        receipts += [receipt for _, receipt in batch.receipts]
    return bodies, receipts


def body_of(event_id: str) -> bytes:
    return json.dumps({"event_id": event_id, "payload": 1}).encode()


def bodies_in(partitions: Collection[int], event_ids: Sequence[str]) -> list[bytes]:
    return sorted(body for body in map(body_of, event_ids) if partition_of(body) in partitions)


async def test_each_member_is_sent_its_share_and_the_least_settled_moves_the_groups_cursor(group: Group) -> None:
    last = await group.publish(*EVENTS)
    first = await group.cursor()
    async with group.source("a").open(nowhere) as a, group.source("b").open(nowhere) as b:
        shares = [bodies_in(one.partitions, EVENTS) for one in (a, b)]
        assert sorted(shares[0] + shares[1]) == sorted(map(body_of, EVENTS))
        taken = [await all_of(one, len(share)) for one, share in zip((a, b), shares, strict=True)]
        assert [sorted(bodies) for bodies, _ in taken] == shares
        await a.settled(taken[0][1])
        await a.save()
        assert await group.cursor() == first, "what the other has is not settled"
        assert all(isinstance(one, Position) for one in taken[1][1])
        await b.settled(taken[1][1][1:])
        await b.save()
        held = await group.cursor()
        assert held == first, "no partition may be missing"
        await b.settled(taken[1][1][:1])
        await b.save()
        assert await group.cursor() == last


async def test_a_share_that_is_taken_over_is_read_again_from_the_groups_cursor(group: Group) -> None:
    await group.publish(*EVENTS)
    source = group.source("a")
    async with group.source("b").open(nowhere) as b, source.open(nowhere) as a:
        mine, theirs = bodies_in(a.partitions, EVENTS), bodies_in(b.partitions, EVENTS)
        _, receipts = await all_of(a, len(mine))
        await a.settled(receipts)
        await all_of(b, len(theirs))
        group.members.discard("b")
        beside = asyncio.create_task(a.run(lambda: False))
        with pytest.raises(SessionOver):
            await a.take(1, 1)
        beside.cancel()
        await asyncio.wait([beside])
    async with source.open(nowhere) as alone:
        assert len(alone.partitions) == COUNT
        bodies, receipts = await all_of(alone, len(EVENTS))
        assert sorted(bodies) == sorted(map(body_of, EVENTS))
        last = await group.publish("newest")
        _, more = await all_of(alone, 1)
        await alone.settled([*receipts, *more])
        await alone.save()
        assert await group.cursor() == last


async def test_what_is_settled_after_an_abort_moves_nothing(group: Group) -> None:
    await group.publish(*EVENTS)
    first = await group.cursor()
    async with group.source("a").open(nowhere) as a:
        _, receipts = await all_of(a, len(bodies_in(a.partitions, EVENTS)))
        a.abort()
        await a.settled(receipts)
        await a.save()
    names = [row_of(SOURCE, partition) for partition in range(COUNT)]
    assert (await group.cursor(), await group.cursors.read_all(names, GROUP)) == (first, {})


async def test_rows_of_a_journal_that_is_gone_hold_nothing_back(group: Group) -> None:
    group.members = {"a"}
    for partition in range(COUNT):
        await group.cursors.start(row_of(SOURCE, partition), GROUP, "aaaaaaaaaaaa.t9-0000000a.900")
    last = await group.publish(*EVENTS)
    async with group.source("a").open(nowhere) as a:
        _, receipts = await all_of(a, len(EVENTS))
        await a.settled(receipts)
        await a.save()
    assert await group.cursor() == last


async def test_a_source_that_sends_no_partitions_is_refused(group: Group) -> None:
    """Such as a producer of an earlier version, which would send everything."""
    source = PartitionedStream(
        StreamOptions(group.producer.stream, SOURCE), group.source("a").progress,
        declare=lambda *_, **__: None, open_connection=without_the_question,
    )  # fmt: skip
    with pytest.raises(SourceEnded, match="set this listener's PARTITIONS to off"):
        async with source.open(nowhere):
            pass


@contextlib.asynccontextmanager
async def without_the_question(url: str, options: WebSocketOptions) -> AsyncIterator[Connection]:
    async with open_messages(url.partition("&partitions")[0], options) as connection:
        yield connection
