"""An open consumer of Kafka: begins each partition at its position beside the rows, and saves how far it is settled."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import OffsetAndMetadata

from unlost.listener.core.cursor import ordinal_of
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.core.watermark import Position, Watermark, settle
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.border import border
from unlost.listener.source.brokers.address import BrokerAddress
from unlost.listener.source.brokers.errors import library_errors, words_of
from unlost.listener.source.brokers.identity import with_id
from unlost.listener.source.brokers.trace import Headers, traces_of
from unlost.listener.source.feed.gaps import Declare
from unlost.listener.source.feed.unpacking import UnpackError

ID_HEADERS = ("event_id", "ce_id")
"""The second is that of CloudEvents."""
OURS = "unlost"
"""The metadata of a position that is committed to Kafka. It means that PostgreSQL had the position first."""
TOGETHER = 64
"""How many messages of one partition share a receipt: one unsettled message holds back all of them."""
WAY_OUT = "delete it there (kafka-delete-records), and reading goes on after it, with a declared gap"
TAKE_SECONDS = 1.0
FIND_SECONDS = 10.0
SAVE_SECONDS = 1.0
LOOK_SECONDS = 5.0


Committed = Callable[[Sequence[TopicPartition]], Awaitable[Mapping[TopicPartition, OffsetAndMetadata]]]
"""Asks what is committed to Kafka for a group, and what stands beside it."""


@dataclass(frozen=True, slots=True)
class KafkaOptions:
    """The settings of this source."""

    address: BrokerAddress
    name: str
    topic: str
    consumer_group: str
    start_from: Literal["oldest", "now"]
    session_seconds: float
    """After this time without heartbeats, a member's partitions go to others."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Where positions are kept: the cursors of a group, and the store in which everything before them is settled."""

    cursors: GroupCursors
    group: str
    store: Callable[[], StoreMark | None]
    declare: Declare
    """Declares a gap."""


class KafkaSession(ConsumerRebalanceListener):  # type: ignore[misc]
    """An open consumer."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        options: KafkaOptions,
        positions: Positions,
        committed: Committed,
    ) -> None:
        """Make one. ``committed`` asks what is committed to Kafka for the group."""
        self.opening = Opened()
        self._committed = committed
        self._in_kafka: Mapping[TopicPartition, OffsetAndMetadata] | None = None
        self._consumer = consumer
        self._options = options
        self._positions = positions
        self._watermarks: dict[TopicPartition, Watermark] = {}
        self._saved: dict[TopicPartition, str] = {}
        self.joined = asyncio.Event()
        """Set once this member of the consumer group knows its partitions, or cannot read them."""
        self._why = ""

    def end(self, why: str) -> None:
        """End the session: ``take`` raises."""
        self._why = self._why or why

    def abort(self) -> None:
        """See ``Session``. Positions are read from PostgreSQL again, whatever was settled here."""
        self._watermarks.clear()
        self.end("reading begins again")

    async def take(self, most: int, size: int) -> Taken:  # noqa: ARG002  the library bounds bytes
        """See ``Session``."""
        while True:
            with library_errors(KafkaError):
                found = await self._found(max(1, most))
            if self._why:
                raise SourceEnded(Loss(self._why))
            batch = self._batch(found)
            if batch.bodies:
                return batch

    async def _found(self, most: int) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = {}
        try:
            found = await self._consumer.getmany(timeout_ms=int(TAKE_SECONDS * 1000), max_records=most)
        except NoOffsetForPartitionError:
            pass  # assigned just now: where it begins is not known yet
        except OffsetOutOfRangeError as error:
            for partition, offset in error.args[0].items():
                await self._go_on(partition, offset)
        except UnpackError as error:
            self.end(f"a batch of {await self._place_of_batch()} cannot be unpacked: {error}; {WAY_OUT}")
        return found

    async def _place_of_batch(self) -> str:
        """Return the place of a batch that cannot be unpacked. The next session reads the same messages again."""
        with contextlib.suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(FIND_SECONDS):
                for partition in self._consumer.assignment():
                    try:
                        await self._consumer.getmany(partition, timeout_ms=int(TAKE_SECONDS * 1000))
                    except UnpackError:
                        return f"{partition.topic}/{partition.partition}@{await self._consumer.position(partition)}"
        return self._options.topic

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``. Messages that were not taken are not committed, and are read again."""

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``. Positions of partitions that are no longer ours are not saved."""
        settle([one for one in receipts if isinstance(one, Position)])

    async def give_back(self) -> None:
        """See ``Session``. Another member reads on from the saved position, once this one has left."""

    async def run(self, paused: Callable[[], bool]) -> None:  # noqa: ARG002
        """See ``Session``. Saves positions, and notices a broker that does not answer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._save_for_ever(), name="save positions")
            tasks.create_task(self._look_for_ever(), name="look for the broker")

    async def save(self) -> None:
        """Save positions that have moved to PostgreSQL. Commit to Kafka what PostgreSQL has recorded."""
        moved = {}
        for partition, watermark in list(self._watermarks.items()):
            if self._watermarks.get(partition) is not watermark:
                continue  # revoked, or PostgreSQL went back, while another position was saved
            cursor = watermark.cursor
            if cursor is None or self._saved.get(partition) == cursor:
                continue
            where = self._positions
            with contextlib.suppress(Transient, Permanent):
                stored = await where.cursors.advance(self._name_of(partition), where.group, cursor, where.store())
                if stored is not None and self._watermarks.get(partition) is watermark:
                    self._saved[partition] = cursor
                    moved[partition] = OffsetAndMetadata(_next(cursor), OURS)
        if moved:
            with contextlib.suppress(KafkaError):  # it only shows the lag
                await self._consumer.commit(moved)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Save the positions of revoked partitions, and forget them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVE_SECONDS):
                await self.save()
        for partition in revoked:
            # Not waited for: claims guard its events, and a receipt that comes late must move no position.
            self._watermarks.pop(partition, None)
            self._saved.pop(partition, None)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Begin each partition at PostgreSQL's position. Without PostgreSQL nothing is read."""
        try:
            self._in_kafka = None
            with border("the assignment of partitions failed"), library_errors(KafkaError):
                await self._partitions_at_first()  # recorded before any position
                for partition in assigned:
                    await self._begin(partition)
        except (Transient, Permanent, SourceEnded) as error:
            self.end(str(error))
        finally:
            self.joined.set()

    async def _begin(self, partition: TopicPartition) -> None:
        consumer, where, name = self._consumer, self._positions, self._name_of(partition)
        stored = await where.cursors.read(name, where.group)
        if stored is None:
            # Recorded at once: everything after this position belongs to the group.
            stored = await where.cursors.start(name, where.group, _cursor(partition, await self._first(partition)))
        consumer.seek(partition, _next(stored))
        self._saved[partition] = stored
        self._watermarks[partition] = Watermark()

    async def _first(self, partition: TopicPartition) -> int:
        """Return where a group without a position in PostgreSQL begins.

        What another program has committed counts. If Unlost has, PostgreSQL had a position and has lost it, and rows
        with it: all that the topic has is read again.
        """
        if self._in_kafka is None:
            known = self._consumer.partitions_for_topic(self._options.topic) or ()
            self._in_kafka = await self._committed([TopicPartition(self._options.topic, one) for one in known])
        committed = self._in_kafka.get(partition)
        ours = committed is not None and committed.metadata == OURS
        if committed is not None and committed.offset >= 0 and not ours:
            return int(committed.offset)
        oldest = self._options.start_from == "oldest" or partition.partition >= await self._partitions_at_first()
        oldest |= ours
        ends = self._consumer.beginning_offsets if oldest else self._consumer.end_offsets
        return int((await ends([partition]))[partition])

    async def _partitions_at_first(self) -> int:
        """Return how many partitions there were when the group began. Messages in later ones are newer than that."""
        where, name = self._positions, f"{self._options.name}/partitions"
        recorded = await where.cursors.read(name, where.group)
        if recorded is None:
            known = self._consumer.partitions_for_topic(self._options.topic) or ()
            begun = [one for one in known if await where.cursors.read(f"{self._options.name}/{one}", where.group)]
            count = max(begun) + 1 if begun else len(known)  # groups of an earlier version recorded no number
            recorded = await where.cursors.start(name, where.group, f"{self._options.topic}/partitions@{count}")
        return _next(recorded)

    async def _go_on(self, partition: TopicPartition, offset: int) -> None:
        """Continue at the oldest message, since the topic has no message at this offset, and declare the gap.

        Retention removed messages before they were read, or the topic was created again and has fewer than before.
        """
        begin = int((await self._consumer.beginning_offsets([partition]))[partition])
        end = int((await self._consumer.end_offsets([partition]))[partition])
        watermark = self._watermarks.get(partition)
        if watermark is None or begin <= offset <= end:  # revoked meanwhile, or the leader had not caught up yet
            self._consumer.seek(partition, offset)
            return
        after, resumed_at = _cursor(partition, offset), _cursor(partition, begin)
        if offset < begin:
            await self._skip(partition, watermark, resumed_at)
            self._positions.declare(
                self._options.name, "expired", after=after, resumed_at=resumed_at, missing=begin - offset
            )
        else:
            await self._go_back(partition, resumed_at)
            self._positions.declare(self._options.name, "unknown_cursor", after=after, resumed_at=resumed_at)
        self._consumer.seek(partition, begin)

    async def _skip(self, partition: TopicPartition, watermark: Watermark, begin: str) -> None:
        """Save the new position, so that a gap is declared once. All that still runs must be settled before that."""
        if watermark.waiting:
            return
        where = self._positions
        stored = await where.cursors.advance(self._name_of(partition), where.group, begin, where.store())
        if stored is not None:
            self._saved[partition] = begin

    async def _go_back(self, partition: TopicPartition, begin: str) -> None:
        name, where = self._name_of(partition), self._positions
        stored = await where.cursors.read(name, where.group)
        if stored is not None:
            await where.cursors.reset(name, where.group, stored, begin)
        self._saved[partition] = begin
        self._watermarks[partition] = Watermark()

    async def _save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self.save()

    async def _look_for_ever(self) -> None:
        """Check the broker: the library reconnects by itself, and does not report that it cannot.

        A member without partitions asks for the topic's first: it must notice too.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    some = [*self._consumer.assignment()][:1] or [TopicPartition(self._options.topic, 0)]
                    await self._consumer.end_offsets(some)
            except TimeoutError:
                self.end(f"Kafka did not answer for {LOOK_SECONDS:.0f} seconds")
            except KafkaError as error:
                self.end(words_of(error))

    def _batch(self, found: dict[TopicPartition, list[Any]]) -> Batch:
        bodies: list[bytes] = []
        receipts: list[tuple[int, Receipt]] = []
        headers: list[Headers] = []
        for partition, records in found.items():
            if (watermark := self._watermarks.get(partition)) is None:
                continue  # revoked meanwhile: its new owner reads these
            rest = iter(records)
            while some := list(islice(rest, TOGETHER)):
                bodies += [_body(one) for one in some]
                headers += [one.headers for one in some]
                receipts.append((len(some), watermark.open(_cursor(partition, some[-1].offset + 1))))
        return Batch(bodies, [None] * len(bodies), receipts, traces_of(headers))

    def _name_of(self, partition: TopicPartition) -> str:
        return f"{self._options.name}/{partition.partition}"


def _cursor(partition: TopicPartition, offset: int) -> str:
    """Return a position: the offset that is read next."""
    return f"{partition.topic}/{partition.partition}@{offset}"


def _next(cursor: str) -> int:
    return int(ordinal_of(cursor) or 0)


def _body(record: Any) -> bytes:
    value = b"null" if record.value is None else bytes(record.value)  # a tombstone is an event without content
    if not record.headers and value.startswith(b'{"event_id":'):
        return value
    given = next((text.decode(errors="replace") for name, text in record.headers if name in ID_HEADERS and text), None)
    # A topic that was created again reuses offsets, but not times.
    return with_id(value, given or f"{record.topic}.{record.partition}.{record.offset}.{record.timestamp}")
