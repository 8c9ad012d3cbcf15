"""Turns: each event is somebody's to ask for first; a peer's share waits for the peer, while that pays."""

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from listener.claims.port import Ask
from listener.event import Event
from listener.pipeline.inbox import Inbox
from listener.pipeline.passage import Passage
from listener.pipeline.turns import Turns
from listener.store.roll import Look

EVENT = cast("Event", None)


def passage(event_id: str) -> Passage:
    return Passage(EVENT, Ask(event_id, b""), None, received_at=0.0, received_clock=0.0)


def turns() -> tuple[Turns, Inbox[Passage]]:
    inbox: Inbox[Passage] = Inbox()
    return Turns(inbox, is_own=lambda event_id: event_id.startswith("mine"), peer_wait=0.05), inbox


async def test_a_peers_share_waits_for_the_peer_and_then_goes_on():
    gate, inbox = turns()
    for event_id in ("theirs 1", "mine 1", "theirs 2", "mine 2"):
        gate.put_all([passage(event_id)])
    assert [one.claim_id for one in await inbox.take(9)] == ["mine 1", "mine 2"]
    assert [one.claim_id for one in await inbox.take(9)] == ["theirs 1", "theirs 2"]


async def test_a_peers_share_is_asked_for_when_nothing_else_waits():
    gate, inbox = turns()
    gate.heard([True])
    for event_id in ("theirs 1", "mine 1", "theirs 2", "mine 2"):
        gate.put_all([passage(event_id)])
    assert [one.claim_id for one in await inbox.take(1)] == ["mine 1"]
    assert [one.claim_id for one in await inbox.take(9)] == ["mine 2"]
    assert [one.claim_id for one in await inbox.take(9)] == ["theirs 1", "theirs 2"]


async def test_a_peer_that_does_not_take_its_share_is_waited_for_no_more_until_it_does():
    gate, inbox = turns()
    gate.heard([True] * 9 + [False])
    gate.put_all([passage("theirs 1")])
    assert len(inbox) == 1
    gate.heard([])
    gate.put_all([passage("theirs 2")])
    assert len(inbox) == 2
    gate.heard([True, True, False])
    gate.put_all([passage("theirs 3")])
    assert len(inbox) == 2


async def test_what_is_revived_is_asked_for_at_once():
    gate, inbox = turns()
    revived = passage("theirs 1")
    revived.revive = True
    gate.put_all([revived])
    assert len(inbox) == 1


@given(st.sets(st.text(min_size=1), min_size=1, max_size=5))
def test_all_that_live_see_the_same_shares(tokens: set[str]):
    looks = [Look(me, frozenset(), {token: frozenset() for token in tokens - {me}}, "p") for me in tokens]
    assert sorted(look.share for look in looks) == [(number, len(tokens)) for number in range(len(tokens))]
