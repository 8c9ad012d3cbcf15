"""Order per key across listeners: nothing overtakes a letter of its key, and what was parked follows by itself."""

import asyncio
import json
import os
import sys
from typing import Any

import asyncpg

from tests.end_to_end.faults.conftest import frame, open_letters
from tests.end_to_end.producer.conftest import RunningProducer, producer  # noqa: F401  a fixture
from tests.support.handlers import NEEDS, RUNS, needs
from tests.support.listeners import running_listener, until_among
from tests.support.source import running_source
from unlost import App, Delivery
from unlost.listener.core.facts import (
    EventBuried,
    EventsDuplicate,
    EventsStored,
    KeysBlocked,
    OrderGivenUp,
    SourceConnected,
)
from unlost.listener.store.postgres.connections import Connection

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


async def fetched(database_url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


async def in_order(database_url: str) -> list[str]:
    return [event_id for (event_id,) in await fetched(database_url, "select event_id from unlost.events order by seq")]


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


def publish(to: RunningProducer, event_id: str, key: str) -> None:
    content = keyed(event_id, key).encode()
    to.http.post("/publish", content=content, headers={"content-type": "application/json"}).raise_for_status()


async def test_reading_stops_in_the_whole_group_until_the_letter_has_become_a_row(
    servers: dict,
    producer: RunningProducer,  # noqa: F811
):
    RUNS.forget()
    stops: dict[str, Any] = {**SETTINGS, "order_after_letter": "stop", "heal_attempts": "1000"}
    async with (
        running_listener(ws_url=producer.stream, **servers, **stops) as a,
        running_listener(ws_url=producer.stream, instance_id="b", **servers, **stops) as b,
    ):
        group = [a, b]
        for one in group:
            await one.heard.until(lambda h: bool(h.of(SourceConnected)))
        publish(producer, "wants", "x")
        for one in group:
            await one.heard.until(lambda h: h.of(KeysBlocked) == [KeysBlocked(True)])
        publish(producer, "fine read", "y")  # a reader that was waiting for an event still reads that one
        for one in group:
            await one.heard.until(lambda h: "fine read" in {*h.ids(EventsStored), *h.ids(EventsDuplicate)})
        publish(producer, "fine unread", "z")
        tried = RUNS.begun.count("wants")
        await until_among(group, lambda: RUNS.begun.count("wants") > tried + 3)
        assert "fine unread" not in RUNS.begun
        RUNS.go_on.set()
        await until_among(group, lambda: "fine unread" in {*a.heard.ids(EventsStored), *b.heard.ids(EventsStored)})
        for one in group:
            await one.heard.until(lambda h: h.of(KeysBlocked) == [KeysBlocked(True), KeysBlocked(False)])
    assert await in_order(servers["database_url"]) == ["fine read", "wants", "fine unread"]


async def whole(event: Delivery, connection: Connection) -> None:
    """Fails unless the amount is a number. Records in its transaction that it ran."""
    await connection.execute("insert into ran (event_id) values ($1)", event.event_id)
    if not isinstance(event.payload["amount"], int):
        raise TypeError("the amount is no number")


async def dlq(*words: object) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "unlost", "dlq", *map(str, words), env={**os.environ, "HANDLER": f"{__name__}:whole"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 50)
    assert process.returncode == 0, (out, err)
    return out.decode()


async def test_an_edited_letter_is_replayed_in_its_place_and_opens_its_key(servers: dict):
    database = servers["database_url"]
    await fetched(database, "create table ran (number serial, event_id text)")
    file = servers["directory"] / "a.jsonl"
    settings: dict[str, Any] = {**SETTINGS, "handler": f"{__name__}:whole", "heal": "off"}
    addresses = "--redis-url", servers["redis_url"], "--database-url", database

    def paid(event_id: str, amount: object, key: str = "x") -> str:
        return frame(event_id, {"key": key, "amount": amount})

    async with running_source() as source, running_listener(ws_url=source.url, **servers, **settings) as a:
        heard = a.heard
        await heard.until(lambda h: bool(h.of(SourceConnected)))
        await source.send(paid("e1", 1), paid("e2", "two"), paid("e3", 3), paid("other", 1, "y"))
        await heard.until(lambda h: len(h.of(EventBuried)) == 2 and {"e1", "other"} <= {*h.ids(EventsStored)})
        change = '[{"op": "replace", "path": "/payload/amount", "value": 2}]'
        await dlq("edit", "e2", file, "--patch", change, "--yes")
        await source.send(paid("e4", 4))
        await heard.until(lambda h: len(h.of(EventBuried)) == 3)
        assert buried([a]) == {"e2": "exhausted", "e3": "blocked", "e4": "blocked"}
        report = json.loads(await dlq("replay", file, "--json", *addresses))["report"]
        assert (report["stored"], report["failed"]) == (3, 0)
        await source.send(paid("e5", 5))
        await heard.until(lambda h: "e5" in h.ids(EventsStored))
        assert open_letters(servers["directory"]) == []
    rows = await fetched(database, "select event_id, letter_version from unlost.events order by seq")
    ran = await fetched(database, "select event_id from ran order by number")
    versions = {"e1": None, "e2": 2, "e3": None, "e4": None, "e5": None}
    assert [(one, version) for one, version in rows if one != "other"] == [*versions.items()]
    assert [one for (one,) in ran if one != "other"] == [*versions]
