"""Turns: each event is somebody's to ask for first; a peer's share waits for the peer, while that pays."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.claims.port import Ask
from listener.event import Event
from listener.pipeline.inbox import Inbox
from listener.pipeline.passage import Glance, Passage
from listener.pipeline.turns import Turns
from listener.store.roll import Look
from listener.watermark import Position

EVENT = cast("Event", None)


def passage(event_id: str) -> Passage:
    return Passage(EVENT, Ask(event_id, b""), None, received_at=0.0, received_clock=0.0)


def glance(event_id: str) -> Glance:
    return Glance(Ask(event_id, b""), b"{}", Position(None), received_at=0.0, received_clock=0.0)


def of_peers(event_ids: Sequence[str]) -> list[bool]:
    return [event_id.startswith("theirs") for event_id in event_ids]


def turns(peer_wait: float = 0.05) -> tuple[Turns, Inbox[Passage]]:
    inbox: Inbox[Passage] = Inbox()
    return Turns(inbox, is_of_peers=of_peers, peer_wait=peer_wait), inbox


async def test_a_peers_share_waits_for_the_peer_and_is_then_looked_at():
    gate, inbox = turns()
    assert gate.wait(["theirs 1", "mine 1"]) == [True, False]
    gate.put_later([glance("theirs 1"), glance("theirs 2")])
    gate.put_later([glance("theirs 3")])
    assert [one.ask.event_id for one in await gate.due(9)] == ["theirs 1", "theirs 2", "theirs 3"]
    assert not len(inbox)


async def test_nobody_is_waited_for_where_no_time_is_given():
    gate, inbox = turns(peer_wait=0)
    assert gate.wait(["theirs 1", "mine 1"]) == [False, False]
    gate.put_all([passage("theirs 1"), passage("mine 1")])
    assert [one.claim_id for one in await inbox.take(9)] == ["theirs 1", "mine 1"]


async def test_nobody_looks_while_something_of_ones_own_waits():
    gate, inbox = turns()
    gate.put_all([passage("mine 1"), passage("mine 2")])
    gate.put_later([glance("theirs 1")])
    looking = asyncio.create_task(gate.due(9))
    for _ in range(2):
        (done, _) = await asyncio.wait([looking], timeout=0.1)
        assert not done
        await inbox.take(1)
        gate.taken()
    assert [one.ask.event_id for one in await looking] == ["theirs 1"]


async def test_what_peers_did_not_settle_is_asked_for_when_nothing_else_waits():
    gate, inbox = turns()
    gate.put_left([passage("theirs 1")])
    gate.put_all([passage("mine 1")])
    assert [one.claim_id for one in await inbox.take(9)] == ["mine 1"]
    assert [one.claim_id for one in await inbox.take(9)] == ["theirs 1"]


async def test_a_peer_that_does_not_take_its_share_is_waited_for_no_more_until_it_does():
    gate, inbox = turns()
    gate.saw(["free"] * 9 + ["taken"])
    assert gate.wait(["theirs 1"]) == [False]
    gate.put_all([passage("theirs 1"), passage("mine 1")])
    assert [one.claim_id for one in await inbox.take(9)] == ["mine 1"]
    (theirs,) = await inbox.take(9)
    assert theirs.of_peer
    gate.heard([])
    gate.heard([True])
    assert gate.wait(["theirs 2"]) == [False]
    gate.heard([True, True, False])
    assert gate.wait(["theirs 3"]) == [True]


@pytest.mark.parametrize("sights", [["settled"] * 2 + ["free"] * 8, ["taken"] * 2 + ["free"] * 8, ["settled"]])
async def test_a_peer_that_takes_a_fifth_of_its_share_is_waited_for(sights):
    gate, _ = turns()
    gate.saw(sights)
    assert gate.wait(["theirs 1"]) == [True]


async def test_what_is_revived_is_asked_for_at_once():
    gate, inbox = turns()
    gate.saw(["free"])
    revived = passage("theirs 1")
    revived.revive = True
    gate.put_all([revived, passage("theirs 2")])
    assert await inbox.take(9) == [revived]
    assert not revived.of_peer


@given(st.sets(st.text(min_size=1), min_size=1, max_size=5))
def test_all_that_live_see_the_same_shares(tokens: set[str]):
    looks = [Look(me, frozenset(), {token: frozenset() for token in tokens - {me}}, "p") for me in tokens]
    assert sorted(look.share for look in looks) == [(number, len(tokens)) for number in range(len(tokens))]
