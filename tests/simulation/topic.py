"""A simulated topic of Kafka, and the client of it that the product's own ``Kafka`` and ``KafkaSession`` use.

The members of the group share the partitions. When one joins, leaves or sends no heartbeat for ``SESSION``, or the
coordinator moves, all give up their partitions and join again. A member that does not is left out: it may still hold
messages, and think that it owns their partitions.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, NoOffsetForPartitionError
from aiokafka.structs import OffsetAndMetadata

from tests.simulation.hooks import Hooks
from tests.simulation.schedule import JOURNAL_RESTORES, RESTORES, Fault, Happening, Schedule, schedule
from tests.simulation.source import LATENCY
from tests.simulation.world import AFTERLIFE, Process, World
from unlost.listener.app.brokers import Store
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.source.brokers.address import read_address
from unlost.listener.source.brokers.kafka import OPTIONS, Kafka, options_of
from unlost.listener.source.brokers.kafka_session import Positions
from unlost.listener.source.feed.gaps import Declare

SALT = 211
EARLY_BACKUP = 0.3
"""How often PostgreSQL goes back to a backup that may have no position of some partitions yet."""
Result = TypeVar("Result")

TOPIC = "topic"
ADDRESS = f"kafka://kafka:9092/{TOPIC}?session=1.2"
PARTITIONS = 3
SESSION, HEARTBEAT, FETCH = 1.2, 0.3, 0.05


class SimulatedTopic:
    """The partitions, how far each is committed, and the group."""

    def __init__(self, world: World, hooks: Hooks) -> None:
        self.world = world
        self.hooks = hooks
        self.state = "up"
        self.logs: list[list[tuple[int, bytes]]] = [[] for _ in range(PARTITIONS)]
        self.committed: dict[int, OffsetAndMetadata] = {}
        self._published = 0
        self._members: dict[SimulatedConsumer, float] = {}
        """When each sent its last heartbeat."""
        self._joining: dict[SimulatedConsumer, asyncio.Future[list[int]]] = {}
        self._round = 0

    def publish(self, frame: bytes) -> bytes:
        """Accept a message. From here on the law holds for it."""
        self._published += 1
        self.logs[self.world.rng.randrange(PARTITIONS)].append((self._published, frame))
        return frame

    def cut(self) -> None:
        """The coordinator moves: all members join again."""
        self._balance()

    def down(self) -> None:
        self.state = "down"

    def up(self) -> None:
        self.state = "up"

    def forget(self, process: Process) -> None:
        """A killed process says nothing. Its partitions stay with it until its session ends."""

    def commit(self, process: Process, moved: Mapping[int, OffsetAndMetadata]) -> None:
        for partition, at in moved.items():
            self.hooks.committed(process, partition, at.offset)
        self.committed.update(moved)

    # -- the group ------------------------------------------------------------------------------

    def heard(self, member: "SimulatedConsumer") -> str:
        """Take a heartbeat: ``ok``, or what the member must do about it."""
        if member not in self._members:
            return "unknown"
        self._members[member] = self.world.now
        return "join again" if self._round % 2 and member not in self._joining else "ok"

    def join(self, member: "SimulatedConsumer", known: "asyncio.Future[list[int]]") -> None:
        """Let a member join. ``known`` gets its partitions once all others have joined or are left out."""
        self._members[member] = self.world.now
        self._joining[member] = known
        self.world.later(SESSION + 0.01, self._expire, member)
        self._balance()

    def leave(self, member: "SimulatedConsumer") -> None:
        if self._members.pop(member, None) is not None:
            self._joining.pop(member, None)
            self._balance()

    def _balance(self) -> None:
        """Begin a round, unless one is in progress. Rounds have odd numbers."""
        if not self._round % 2:
            self._round += 1
            self.world.later(SESSION, self._leave_out, self._round)
        self._divide()

    def _leave_out(self, number: int) -> None:
        if self._round == number:
            self._members = {member: at for member, at in self._members.items() if member in self._joining}
            self._divide()

    def _divide(self) -> None:
        """End the round, once all members have joined."""
        if not self._round % 2 or self._members.keys() != self._joining.keys():
            return
        self._round += 1
        waiting, self._joining = self._joining, {}
        for number, (member, known) in enumerate(waiting.items()):
            partitions = [one for one in range(PARTITIONS) if one % len(waiting) == number]
            self.world.later(LATENCY, _tell, member.process, known, partitions)

    def _expire(self, member: "SimulatedConsumer") -> None:
        if (heard := self._members.get(member)) is None:
            return
        if (left := heard + SESSION - self.world.now) > 0:
            self.world.later(left + 0.01, self._expire, member)
            return
        self.world.note("topic", f"a member of {member.process.name} sends no heartbeat")
        self.leave(member)


def _tell(process: Process, known: "asyncio.Future[list[int]]", partitions: list[int]) -> None:
    def notify() -> None:
        if not known.done():
            known.set_result(partitions)

    if process.alive:
        process.call_soon(notify)


class Client:
    """A client of one process."""

    def __init__(self, process: Process, topic: SimulatedTopic, **_: Any) -> None:
        self.process = process
        self._topic = topic

    async def start(self) -> None:
        await self._asked(lambda: None)

    async def _asked(self, what: Callable[[], Result]) -> Result:
        """Ask the brokers, and wait for the answer."""
        if self.process.state is AFTERLIFE:
            raise asyncio.CancelledError
        await asyncio.sleep(LATENCY * (0.3 + self._topic.world.rng.random()))
        if self._topic.state != "up":
            raise KafkaConnectionError("no broker answers")
        result = what()
        await asyncio.sleep(LATENCY * (0.3 + self._topic.world.rng.random()))
        return result


class SimulatedAdmin(Client):
    """The part of ``AIOKafkaAdminClient`` that the product uses."""

    async def list_consumer_group_offsets(self, _: str, partitions: Any) -> dict[TopicPartition, OffsetAndMetadata]:
        return await self._asked(lambda: {TopicPartition(TOPIC, one): at for one, at in self._topic.committed.items()})

    async def close(self) -> None:
        """Nothing is left."""


class SimulatedConsumer(Client):
    """The part of ``AIOKafkaConsumer`` that the product uses. It reads on until its heartbeat is refused."""

    def __init__(self, process: Process, topic: SimulatedTopic, **_: Any) -> None:
        super().__init__(process, topic)
        self._listener: Any = None
        self._assignment: list[int] = []
        self._positions: dict[int, int] = {}
        self._following: asyncio.Task[None] | None = None

    async def topics(self) -> set[str]:
        return {TOPIC}

    def subscribe(self, _: Sequence[str], listener: Any) -> None:
        self._listener = listener
        self._following = asyncio.create_task(self._follow(), name="group")

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._asked(lambda: self._topic.leave(self))

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, one) for one in self._assignment]

    def partitions_for_topic(self, _: str) -> set[int]:
        return {*range(PARTITIONS)}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._positions[partition.partition] = offset

    async def commit(self, moved: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        await self._asked(lambda: self._topic.commit(self.process, {one.partition: at for one, at in moved.items()}))

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._asked(lambda: dict.fromkeys(partitions, 0))

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._asked(lambda: {one: len(self._topic.logs[one.partition]) for one in partitions})

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        until = self.process.time() + timeout_ms / 1000
        while True:
            await asyncio.sleep(FETCH * (0.1 + self._topic.world.rng.random()))
            found = self._read(max_records) if self._topic.state == "up" else {}
            if found or self.process.time() >= until:
                return found

    def _read(self, most: int) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = {}
        for number in self._assignment:
            if (at := self._positions.get(number)) is None:
                if found:
                    break  # the error comes with the next call
                raise NoOffsetForPartitionError(TopicPartition(TOPIC, number))
            for offset, (serial, frame) in enumerate(self._topic.logs[number][at : at + most], at):
                self._topic.hooks.frame_arrived(self.process, serial)
                record = SimpleNamespace(value=frame, headers=(), topic=TOPIC, partition=number, offset=offset)
                found.setdefault(TopicPartition(TOPIC, number), []).append(record)
                self._positions[number] = offset + 1
        return found

    async def _follow(self) -> None:
        """Keep the place in the group. Partitions are given up before the member joins again."""
        state = "unknown"
        while True:
            if state != "ok":
                await self._join_again()
            await asyncio.sleep(HEARTBEAT)
            with contextlib.suppress(KafkaConnectionError):
                state = await self._asked(lambda: self._topic.heard(self))

    async def _join_again(self) -> None:
        if self._assignment:
            await self._listener.on_partitions_revoked(self.assignment())
        self._assignment, self._positions = [], {}
        while True:
            known: asyncio.Future[list[int]] = self.process.create_future()
            with contextlib.suppress(KafkaConnectionError, TimeoutError):
                await self._asked(lambda known=known: self._topic.join(self, known))  # type: ignore[misc]
                async with asyncio.timeout(2 * SESSION):
                    self._assignment = await known
                    break
            await asyncio.sleep(HEARTBEAT)
        # Until the listener says where to begin, the client reads where Kafka has it.
        places = self._topic.committed
        self._positions = {one: at.offset for one, at in places.items() if one in self._assignment}
        await self._listener.on_partitions_assigned(self.assignment())


def topic_source(
    process: Process, topic: SimulatedTopic, settings: ListenerSettings, cursors: GroupCursors, store: Store,
    declare: Declare,
) -> Kafka:  # fmt: skip
    """Build the source of this process: the product's own, with the simulated client."""
    address = read_address(ADDRESS, what="TOPIC", port=9092, options=OPTIONS)
    options = options_of(address, group=settings.group, start_from="oldest")
    positions = Positions(cursors, settings.group, store, declare)
    consumer, admin = partial(SimulatedConsumer, process, topic), partial(SimulatedAdmin, process, topic)
    return Kafka(options, positions, consumer=consumer, admin=admin)


def topic_shared(seed: int) -> Schedule:
    """The schedule of this seed in which the listeners share the partitions of a topic.

    It is the usual one, with more events and further moves of partitions. A topic is not set back, and removes nothing.
    """
    usual, rng = schedule(seed), random.Random(seed * 2_654_435_761 + SALT)
    listeners = usual.listeners if len(usual.listeners) > 1 else (*usual.listeners, ("l1", rng.uniform(0, 2)))
    first = len(usual.happenings)
    more = tuple(
        Happening(f"e{number}", rng.uniform(0.0, 5.0), f"e{number}", seconds=rng.choice((0.0, 0.05, 0.2, 0.8)))
        for number in range(first, first + rng.randint(2, 8))
    )
    kept = tuple(one for one in usual.faults if one.what not in ("retention", *JOURNAL_RESTORES))
    moves = tuple(Fault(f"m{n}", rng.uniform(0.5, 5.0), 0.0, "cut", "source") for n in range(rng.randint(0, 3)))
    if rng.random() < EARLY_BACKUP and not any(one.what in RESTORES for one in kept):
        at, seconds = rng.uniform(0.0, 1.5), rng.choice((0.7, 1.2, 2.0))
        moves += (Fault("g9", at, seconds, "restore data", "postgres"),)
    return msgspec.structs.replace(
        usual,
        listeners=listeners,
        happenings=tuple(msgspec.structs.replace(one, valid=True) for one in usual.happenings + more),
        faults=kept + moves,
        resumes=True,
        acks=False,
        topic=True,
    )
