"""Checking peers: events that peers settled end unread, others are read; own segments are announced as settled."""

import asyncio
from collections.abc import Collection, Sequence

import pytest

from tests.support.claims import FakeManager
from tests.support.fakes import as_a
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.facts import BatchDone, EventsDuplicate, Fact, FramesUnread
from unlost.listener.core.in_flight import DUPLICATE, STORED, InFlight
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.peer_check import PeerCheck
from unlost.listener.pipeline.peers.segments import Segmenter
from unlost.listener.pipeline.policy import Policy
from unlost.listener.source.stream.envelope import split

POLICY = Policy(peer_wait=0.01)
CLOCKS = Clocks(lambda: 5.0, lambda: 7.0)


class Bench:
    """The intake of the first of two listeners, with segments of one or two frames, and a check of what it left."""

    def __init__(self, announced: Collection[ClaimRequest] | None = (), *, number: int = 0) -> None:
        manager = FakeManager()
        manager.settled = announced
        self.queue: BatchQueue[InFlight] = BatchQueue()
        self.facts: list[Fact] = []
        self.has_looked = asyncio.Event()
        self.affinity = PeerAffinity(self.queue, peer_wait=POLICY.peer_wait)
        self.intake = Intake(policy=POLICY, affinity=self.affinity, clocks=CLOCKS, facts=self.hear)
        self.inlet = Inlet(
            intake=self.intake, segmenter=Segmenter(lambda: (number, 2), length=2), affinity=self.affinity,
            max_bytes=POLICY.max_event_bytes, clocks=CLOCKS,
        )  # fmt: skip
        self.looking = PeerCheck(
            affinity=self.affinity,
            manager=as_a(ClaimManager, manager),
            intake=self.intake,
            clocks=CLOCKS,
            facts=self.hear,
        )

    def hear(self, fact: Fact) -> None:
        self.facts.append(fact)
        if isinstance(fact, BatchDone):
            self.has_looked.set()

    async def claimed(self) -> list[InFlight]:
        """The events to claim first."""
        taken = [] if self.queue.only_behind else await self.queue.take(999)
        self.affinity.taken()
        return taken

    async def left(self) -> list[InFlight]:
        """The events to claim after one check."""
        running, looked = (asyncio.create_task(one) for one in (self.looking.run(), self.has_looked.wait()))
        await asyncio.wait({running, looked}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert looked.done(), running
        running.cancel()
        return await self.queue.take(999) if len(self.queue) else []


FRAMES = [b'{"event_id":"e%d","type":"t","payload":{"n":1},"cursor":"j.%d"}' % (n, n) for n in range(22)]


async def announced_by_peer(frames: Sequence[bytes] = FRAMES) -> list[ClaimRequest]:
    """The names that the other listener announces once it has settled everything it claimed."""
    peer = Bench(number=1)
    peer.inlet.receive(split(frames))
    assert peer.intake.settled_segments() == []
    peer.intake.finish([(flight, STORED) for flight in await peer.claimed()])
    return peer.intake.settled_segments()


async def test_two_peers_share_all_events_and_only_the_first_segment_twice():
    names = []
    for number in (0, 1):
        bench = Bench(number=number)
        bench.inlet.receive(split(FRAMES))
        names.append({flight.claim_id for flight in await bench.claimed()})
    both = names[0] & names[1]
    assert names[0] | names[1] == {f"e{n}" for n in range(22)}
    assert both == {f"e{n}" for n in range(len(both))}  # whose the first segment is remains unknown
    assert min(len(names[0]), len(names[1])) > len(both)


async def test_events_that_a_peer_announces_end_unread():
    bench = Bench(await announced_by_peer())
    assert bench.inlet.receive(split(FRAMES)) == "j.21"
    own = await bench.claimed()
    unread = len(FRAMES) - len(own)
    assert unread > 5
    assert not await bench.left()
    assert [fact.count for fact in bench.facts if isinstance(fact, FramesUnread)] == [unread]
    bench.intake.finish([(flight, STORED) for flight in own])
    assert (bench.intake.count, bench.intake.size, bench.intake.inside()) == (0, 0, [])
    assert (bench.inlet.watermark.cursor, bench.inlet.watermark.waiting) == ("j.21", 0)


@pytest.mark.parametrize("announced", [[], None])
async def test_events_that_nobody_announces_are_read_and_keep_their_place(announced: list[ClaimRequest] | None):
    bench = Bench(announced)
    bench.inlet.receive(split(FRAMES))
    own = await bench.claimed()
    left = await bench.left()
    assert {flight.claim_id for flight in (*own, *left)} == {f"e{n}" for n in range(22)}
    assert {flight.event.payload for flight in left} == {b'{"n":1}'}
    assert {(flight.received_at, flight.received_clock) for flight in left} == {(5.0, 7.0)}
    assert all(flight.of_peer for flight in left)
    bench.intake.finish([(flight, STORED) for flight in (*left, *own[1:])])
    assert (bench.inlet.watermark.cursor, bench.intake.count) == (None, 1)
    bench.intake.finish([(own[0], DUPLICATE)])
    assert (bench.inlet.watermark.cursor, bench.intake.count) == ("j.21", 0)


async def test_other_bytes_are_not_announced():
    announced = await announced_by_peer()
    other = [frame.replace(b'"n":1', b'"n":2') if b'"e2"' not in frame else frame for frame in FRAMES]
    bench = Bench(announced)
    bench.inlet.receive(split(other))
    own = await bench.claimed()
    left = await bench.left()
    assert len(own) + len(left) + sum(f.count for f in bench.facts if isinstance(f, FramesUnread)) == len(FRAMES)
    assert {b'{"n":2}'} >= {flight.event.payload for flight in left if flight.claim_id != "e2"}


async def test_a_segment_is_announced_once_and_only_when_all_of_it_is_settled():
    bench = Bench(number=1)
    for frame in FRAMES:  # each at a different position
        bench.inlet.receive(split([frame]))
    own = await bench.claimed()
    shown: list[ClaimRequest] = []
    for flight in reversed(own):
        bench.intake.finish([(flight, STORED)])
        shown += bench.intake.settled_segments()
    assert set(shown) == set(await announced_by_peer())
    assert len(shown) == len(set(shown))


async def test_while_peers_are_not_waited_for_all_is_read_at_once_and_ones_own_comes_first():
    bench = Bench(await announced_by_peer())
    bench.affinity.waits = False
    bench.inlet.receive(split(FRAMES))
    own = await bench.claimed()
    theirs = await bench.queue.take(999)
    assert {flight.claim_id for flight in (*own, *theirs)} == {f"e{n}" for n in range(22)}
    assert not await bench.left()
    assert bench.affinity.waits  # that they settle their share was learned all the same
    assert not [fact for fact in bench.facts if isinstance(fact, FramesUnread)]


async def test_an_invalid_event_gets_its_cause_once_it_is_read():
    bench = Bench()
    broken = [frame.replace(b'{"n":1}', b'{"n":1,"n":2}') for frame in FRAMES]
    bench.inlet.receive(split(broken))
    flights = [*await bench.claimed(), *await bench.left()]
    assert len(flights) == len(FRAMES)
    assert {flight.cause.reason for flight in flights if flight.cause} == {"invalid"}


async def test_a_copy_of_what_is_at_work_follows_it():
    bench = Bench()
    bench.inlet.receive(split(FRAMES))
    first = [*await bench.claimed(), *await bench.left()]
    bench.inlet.receive(split(FRAMES))
    bench.has_looked.clear()
    assert not [*await bench.claimed(), *await bench.left()]
    assert all(flight.copies for flight in first)
    bench.intake.finish([(flight, STORED) for flight in first])
    assert bench.intake.count == 0
    assert sum(len(f.event_ids) for f in bench.facts if isinstance(f, EventsDuplicate)) == len(FRAMES)
