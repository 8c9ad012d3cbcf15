"""Looking: what peers settled ends unread, what they did not is read; none of it leaves a trace in memory."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from listener.claims.port import Ask, Sight
from listener.errors import Transient
from listener.facts import BatchDone, EventsDuplicate, Fact
from listener.pipeline.inbox import Inbox
from listener.pipeline.intake import Clocks, Intake
from listener.pipeline.looking import Looking
from listener.pipeline.passage import Passage
from listener.pipeline.policy import Policy
from listener.pipeline.turns import Turns

POLICY = Policy(peer_wait=0.01)
CLOCKS = Clocks(lambda: 5.0, lambda: 7.0)


class Desk:
    """As much of the desk as looking asks: a sight of each event, or no answer at all."""

    def __init__(self, sights: dict[str, Sight] | None) -> None:
        self._sights = sights
        self.asked: list[Ask] = []

    async def look(self, asks: Sequence[Ask]) -> list[Sight]:
        self.asked += asks
        if self._sights is None:
            raise Transient("no place answers")
        return [self._sights.get(ask.event_id, "free") for ask in asks]


class Bench:
    """An intake whose every event is a peer's, and a look at what it left."""

    def __init__(self, sights: dict[str, Sight] | None) -> None:
        self.inbox: Inbox[Passage] = Inbox()
        self.facts: list[Fact] = []
        self.has_looked = asyncio.Event()
        self.desk = Desk(sights)
        turns = Turns(self.inbox, is_of_peers=lambda ids: [True] * len(ids), peer_wait=POLICY.peer_wait)
        self.intake = Intake(policy=POLICY, turns=turns, clocks=CLOCKS, facts=self.hear)
        self.looking = Looking(
            turns=turns, desk=cast("Any", self.desk), intake=self.intake, policy=POLICY, clocks=CLOCKS,
            facts=self.hear,
        )  # fmt: skip

    def hear(self, fact: Fact) -> None:
        self.facts.append(fact)
        if isinstance(fact, BatchDone):
            self.has_looked.set()

    async def looked(self, *frames: bytes) -> list[Passage]:
        """Receive these, and return what is to be claimed once it was looked."""
        self.intake.receive(frames)
        self.has_looked.clear()
        running, looked = (asyncio.create_task(one) for one in (self.looking.run(), self.has_looked.wait()))
        await asyncio.wait({running, looked}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert looked.done(), running
        running.cancel()
        return await self.inbox.take(99) if len(self.inbox) else []


def frame(event_id: str, number: int) -> bytes:
    return b'{"event_id":"%s","type":"t","payload":{"n":1},"cursor":"j.%d"}' % (event_id.encode(), number)


@pytest.mark.parametrize("count", [2, 20])
async def test_what_peers_settled_ends_unread(count: int):
    names = [f"e{n}" for n in range(count)]
    bench = Bench(dict.fromkeys(names, "settled"))
    assert not await bench.looked(*[frame(name, n) for n, name in enumerate(names)])
    assert (bench.intake.count, bench.intake.size, bench.intake.inside()) == (0, 0, [])
    assert bench.intake.watermark.cursor == f"j.{count - 1}"
    assert [fact.event_ids for fact in bench.facts if isinstance(fact, EventsDuplicate)] == [names]


@pytest.mark.parametrize("count", [2, 20])
async def test_what_peers_did_not_settle_is_read_and_keeps_its_place(count: int):
    names = [f"e{n}" for n in range(count)]
    bench = Bench({names[0]: "settled", names[1]: "taken"})
    left = await bench.looked(*[frame(name, n) for n, name in enumerate(names)])
    assert [passage.claim_id for passage in left] == names[1:]
    assert [passage.event.payload for passage in left] == [b'{"n":1}'] * (count - 1)
    assert bench.intake.count == count - 1
    assert bench.intake.watermark.cursor == "j.0"
    assert {(passage.received_at, passage.received_clock) for passage in left} == {(5.0, 7.0)}


async def test_where_no_place_answers_all_is_read():
    bench = Bench(None)
    assert len(await bench.looked(*[frame(f"e{n}", n) for n in range(5)])) == 5


async def test_what_is_no_event_is_looked_for_by_its_bytes_and_then_doomed():
    bench = Bench({})
    broken = b'{"event_id":"e","payload":{"a":1,"a":2}}'
    (left,) = await bench.looked(broken)
    assert left.doom is not None
    assert bench.desk.asked == [left.ask]
    settled = Bench({left.claim_id: "settled"})
    assert not await settled.looked(broken)
    assert settled.intake.count == 0


async def test_a_copy_of_what_is_at_work_follows_it():
    bench = Bench({"e": "taken"})
    (first,) = await bench.looked(frame("e", 1))
    assert not await bench.looked(frame("e", 2))
    assert first.followers is not None
    assert bench.intake.count == 2
