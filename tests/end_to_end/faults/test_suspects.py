"""Events whose owners died: a few run together until they are settled, and no stored event is condemned."""

import asyncio

import pytest

from tests.end_to_end.faults.conftest import frame
from tests.end_to_end.faults.handlers import hang, named
from tests.support.listeners import Heard, rows_of, running_listener
from tests.support.source import running_source
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import ClaimRequest, Won
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.event import parse
from unlost.listener.core.facts import EventBuried, EventsClaimed, EventsDuplicate, EventsStored, EventsTakenOver
from unlost.ops.system.valkey import ValkeyServer

HEARD: list[Heard] = []
SETTLED_AT_START: dict[str, set[str]] = {}


async def see_who_is_settled(event: Delivery) -> None:
    SETTLED_AT_START[event.event_id] = set(HEARD[0].ids(EventsStored))


async def see_it_in_a_transaction(event: Delivery, connection: object) -> None:
    await see_who_is_settled(event)


@pytest.mark.parametrize("handler", [see_who_is_settled, see_it_in_a_transaction])
async def test_the_next_suspects_run_when_those_before_are_settled(servers: dict, handler):
    """Otherwise an innocent event whose row is not written yet would lose one more owner, and might be condemned."""
    HEARD.clear()
    SETTLED_AT_START.clear()
    ids = [f"held{number}" for number in range(4)]
    async with running_source() as source:
        same = {"ws_url": source.url, **servers, "lease": "1"}
        async with running_listener(**same, handler=named(hang)) as one:
            await source.wait_for_clients(1)
            await source.send(*map(frame, ids))
            await one.heard.until(lambda h: len(h.ids(EventsClaimed)) == 4)
            await one.crash()
        source.backlog = lambda after: [frame(id_) for id_ in ids]
        async with running_listener(
            **same, handler=f"{__name__}:{handler.__name__}", instance_id="b", handler_change="yes"
        ) as two:
            HEARD.append(two.heard)
            await two.heard.until(lambda h: len(h.ids(EventsStored)) == 4)
            heard = [f for f in two.heard.facts if isinstance(f, EventsTakenOver | EventsStored)]
    held: set[str] = set()
    settled: set[str] = set()
    for fact in heard:
        if isinstance(fact, EventsTakenOver):
            assert not held, "some were taken over before others were settled"
            held.update(fact.event_ids)
            for event_id in held:  # of those that run together, one may be settled before another begins
                assert SETTLED_AT_START[event_id] - held == settled
            assert len(held) <= 2, "at most half of the waiting ones"
        else:
            settled.update(fact.event_ids)
            held.difference_update(fact.event_ids)
    assert len(settled) == 4


@pytest.mark.parametrize("settings", [{}, {"handler": f"{__name__}:see_it_in_a_transaction"}])
async def test_an_event_that_is_a_row_is_never_condemned(servers: dict, own_valkey: ValkeyServer, settings: dict):
    """Its last owner died between storing and settling."""
    servers["redis_url"] = own_valkey.url
    event = parse(frame("e").encode(), max_bytes=1024)
    async with running_source() as source:
        source.backlog = lambda after: [frame("e")]
        async with running_listener(ws_url=source.url, **servers) as one:
            await one.heard.until(lambda h: h.ids(EventsStored) == ["e"])
        await asyncio.to_thread(own_valkey.flush)
        dead = RedisClaims(
            redis_servers(own_valkey.url), token="dead", group="unlost", lease_seconds=0.5, window_seconds=600
        )
        await dead.place()
        (won,) = await dead.claim([ClaimRequest("e", event.digest)], take_over=False)
        assert isinstance(won, Won)
        await dead.close()
        async with running_listener(
            ws_url=source.url, **servers, **settings, max_takeovers="1", instance_id="b"
        ) as two:
            await two.heard.until(lambda h: bool(h.ids(EventsDuplicate) or h.of(EventBuried)))
            assert two.heard.of(EventBuried) == []
    assert len(await rows_of(servers["database_url"])) == 1
