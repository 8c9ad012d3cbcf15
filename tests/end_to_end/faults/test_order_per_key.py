"""Order per key across listeners: nothing overtakes a letter of its key, and what was parked follows by itself."""

from typing import Any

import asyncpg

from tests.end_to_end.faults.conftest import frame
from tests.support.handlers import NEEDS, RUNS, needs
from tests.support.listeners import running_listener, until_among
from tests.support.source import running_source
from unlost import App, Delivery
from unlost.listener.core.facts import EventBuried, EventsStored, KeysBlocked, OrderGivenUp, SourceConnected

app = App()
SETTINGS: dict[str, Any] = {
    "handler": NEEDS, "order_by": "payload.key", "handle_attempts": "1", "heal_first": "0.2", "heal_max": "0.5",
}  # fmt: skip


def keyed(event_id: str, key: str, **more: object) -> str:
    return frame(event_id, {"key": key}, **more)


@app.on("price", key="key", after_letter="continue")
async def price(event: Delivery) -> None:
    await needs(event)


@app.on("payment", key="key", after_letter="stop")
async def payment(event: Delivery) -> None:
    await needs(event)


@app.otherwise(key="key")
async def other(event: Delivery) -> None:
    await needs(event)


async def in_order(database_url: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        return [row["event_id"] for row in await connection.fetch("select event_id from unlost.events order by seq")]
    finally:
        await connection.close()


async def test_parked_events_follow_their_letter_in_order_whoever_is_there(servers: dict):
    RUNS.forget()
    async with running_source() as source, running_listener(ws_url=source.url, **servers, **SETTINGS) as a:
        await a.heard.until(lambda h: bool(h.of(SourceConnected)))
        await source.send(keyed("wants", "x"), keyed("fine1", "x"), keyed("fine of y", "y"))
        await a.heard.until(lambda h: len(h.of(EventBuried)) == 2 and "fine of y" in h.ids(EventsStored))
        async with running_listener(ws_url=source.url, instance_id="b", **servers, **SETTINGS) as b:
            await source.wait_for_clients(2)
            await b.heard.until(lambda h: bool(h.of(SourceConnected)))
            await source.send(keyed("fine2", "x"))
            reasons = {"wants": "exhausted", "fine1": "blocked", "fine2": "blocked"}
            await until_among([a, b], lambda: buried([a, b]) == reasons)
            assert set(RUNS.begun) == {"wants", "fine of y"}, "no handler has run for what is parked"
            assert await in_order(servers["database_url"]) == ["fine of y"]
            await a.stop()  # a crash might leave the letter leased to it for half a minute
            RUNS.go_on.set()
            await b.heard.until(lambda h: {"wants", "fine1", "fine2"} <= {*h.ids(EventsStored)})
            await source.send(keyed("fine3", "x"))
            await b.heard.until(lambda h: "fine3" in h.ids(EventsStored))
    assert await in_order(servers["database_url"]) == ["fine of y", "wants", "fine1", "fine2", "fine3"]


def buried(listeners: list) -> dict[str, str]:
    return {fact.event_id: fact.reason for one in listeners for fact in one.heard.of(EventBuried)}


async def test_a_listener_with_another_order_than_its_peers_starts_nothing(servers: dict):
    async with running_source() as source, running_listener(ws_url=source.url, **servers, **SETTINGS) as a:
        await a.heard.until(lambda h: bool(h.of(SourceConnected)))
        other: dict[str, Any] = {**SETTINGS, "order_by": "payload.other"}
        async with running_listener(ws_url=source.url, instance_id="b", **servers, **other) as b:
            await b.daemon.working.wait()
            (check,) = [one for one in b.daemon.health().able if one.name == "handler"]
            assert not check.well
            assert "ordered by payload.key" in check.reason


async def test_each_route_has_its_own_policy_after_a_letter(servers: dict):
    RUNS.forget()
    settings: dict[str, Any] = {**SETTINGS, "handler": f"{__name__}:app", "order_by": ""}
    async with running_source() as source, running_listener(ws_url=source.url, **servers, **settings) as a:
        heard = a.heard
        await heard.until(lambda h: bool(h.of(SourceConnected)))
        await source.send(
            keyed("wants price", "x", type="price"), keyed("fine price", "x", type="price"),
            keyed("wants order", "y"), keyed("fine order", "y"), keyed("fine price of y", "y", type="price"),
        )  # fmt: skip
        await heard.until(lambda h: {"fine price", "fine price of y"} <= {*h.ids(EventsStored)})
        await heard.until(lambda h: len(h.of(EventBuried)) == 3)
        assert buried([a]) == {"wants price": "exhausted", "wants order": "exhausted", "fine order": "blocked"}
        assert [one.event_id for one in heard.of(OrderGivenUp)] == ["wants price"]
        assert not heard.of(KeysBlocked), "no letter so far stops reading"
        await source.send(keyed("wants payment", "z", type="payment"))
        await heard.until(lambda h: h.of(KeysBlocked) == [KeysBlocked(True)])
        RUNS.go_on.set()
        wanted = {"wants price", "wants order", "fine order", "wants payment"}
        await heard.until(lambda h: wanted <= {*h.ids(EventsStored)})
        await heard.until(lambda h: h.of(KeysBlocked) == [KeysBlocked(True), KeysBlocked(False)])
