"""Peer affinity: a peer's share is left to the peer, while that pays."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import unused
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.event import Event
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.pipeline.peers.affinity import LATELY, PeerAffinity
from unlost.listener.pipeline.peers.segments import Segment, SegmentPiece
from unlost.listener.ports.membership import MembershipView

WAIT = 0.05


def flight(event_id: str) -> InFlight:
    return InFlight(unused(Event), ClaimRequest(event_id, b""), None, received_at=0.0, received_clock=0.0)


def part(*, ended: bool = True) -> SegmentPiece:
    segment = Segment(is_of_peer=True)
    if ended:
        segment.end()
    return SegmentPiece(segment, [b"{}"])


def affinity() -> tuple[PeerAffinity, BatchQueue[InFlight]]:
    queue: BatchQueue[InFlight] = BatchQueue()
    return PeerAffinity(queue, peer_wait=WAIT), queue


async def test_a_peers_share_waits_for_the_peer_and_is_then_looked_at():
    gate, queue = affinity()
    parts = [part(), part(), part()]
    started = asyncio.get_running_loop().time()
    for one in parts:
        gate.put_later(one)
    assert await gate.due(9) == parts
    assert asyncio.get_running_loop().time() - started >= WAIT * 0.5
    assert not len(queue)


async def test_a_segment_that_goes_on_is_waited_for_as_long_again():
    gate, _ = affinity()
    going_on = part(ended=False)
    loop = asyncio.get_running_loop()
    started = loop.time()
    gate.put_later(going_on)
    assert await gate.due(9) == [going_on]
    assert loop.time() - started >= WAIT * 1.5


async def test_a_segment_that_ends_late_is_looked_at_soon_after():
    gate, _ = affinity()
    late = part(ended=False)
    gate.put_later(late)
    asyncio.get_running_loop().call_later(WAIT * 1.2, late.segment.end)
    assert await gate.due(9) == [late]
    assert late.segment.name


async def test_nobody_looks_while_something_of_ones_own_waits():
    gate, queue = affinity()
    gate.put_all([flight("mine 1"), flight("mine 2")])
    theirs = part()
    gate.put_later(theirs)
    looking = asyncio.create_task(gate.due(9))
    for _ in range(2):
        (done, _) = await asyncio.wait([looking], timeout=0.1)
        assert not done
        await queue.take(1)
        gate.taken()
    assert await looking == [theirs]


async def test_events_of_peers_are_taken_when_nothing_else_waits():
    gate, queue = affinity()
    gate.put_behind([flight("theirs 1")])
    gate.put_all([flight("mine 1")])
    assert [one.claim_id for one in await queue.take(9)] == ["mine 1"]
    assert [one.claim_id for one in await queue.take(9)] == ["theirs 1"]


@pytest.mark.parametrize(("won", "waits"), [([True] * 9 + [False], False), ([True] * 8 + [False] * 2, True)])
async def test_a_peer_that_takes_hardly_anything_is_waited_for_no_more(won: list[bool], waits: bool):
    gate, _ = affinity()
    gate.record_won(won)
    assert gate.waits is waits
    gate.record_won([])
    assert gate.waits is waits


@pytest.mark.parametrize(("settled", "waits"), [(1, False), (2, True), (10, True)])
async def test_it_is_waited_for_again_once_it_settles_its_share(settled: int, waits: bool):
    gate, _ = affinity()
    gate.record_won([True])
    gate.saw(settled, 10)
    assert gate.waits is waits


async def test_a_peer_that_settles_its_share_may_leave_some_of_it():
    gate, _ = affinity()
    gate.saw(5, 10)
    gate.saw(0, 10)
    gate.record_won([True] * 10)
    assert gate.waits
    await asyncio.sleep(WAIT * LATELY)
    gate.record_won([True] * 10)
    assert not gate.waits


async def test_a_peer_that_settles_some_is_given_as_long_again_for_the_rest_once():
    gate, _ = affinity()
    slow, going_on = part(), part(ended=False)
    assert gate.wait_again([slow]) == [slow]
    gate.saw(5, 10)
    assert gate.wait_again([slow, going_on]) == [going_on]
    assert await gate.due(9) == [slow]
    assert gate.wait_again([slow]) == [slow]


@given(st.sets(st.text(min_size=1), min_size=1, max_size=5))
def test_all_that_live_see_the_same_shares(tokens: set[str]):
    views = [
        MembershipView(me, frozenset(), {token: frozenset() for token in tokens - {me}}, "p", StoreMark("g", 0, "p"))
        for me in tokens
    ]
    assert sorted(view.share for view in views) == [(number, len(tokens)) for number in range(len(tokens))]
