"""An application as the handler of a real listener: routes of both forms, typed payloads, lifespan, and what fails."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psycopg
import pytest

from tests.support.listeners import rows_of, running_listener
from tests.support.source import running_source
from unlost import App, Backoff, Delivery, Reject, Transaction
from unlost.dlq.record.file import read_letters
from unlost.dlq.record.letter import Letter
from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.core.facts import EventBuried, EventsDuplicate, EventsStored, HandlerRan
from unlost.ops.audit.letters import unresolved_letters
from unlost.testing import TestApp

LOG: list[str] = []
app = App()


class Order(msgspec.Struct):
    sku: str
    count: int


wired, wired_in_a_thread = App(), App()


def _declare_work() -> None:
    @wired.on("t")
    async def work(connection: psycopg.AsyncConnection[Any]) -> None:
        """It never runs."""

    @wired_in_a_thread.on("t")  # type: ignore[no-redef]
    def work(connection: psycopg.Connection[Any]) -> None:  # noqa: F811
        """It never runs."""


_declare_work()


class Stock:
    """A resource."""


@app.lifespan
async def resources() -> AsyncIterator[dict[str, object]]:
    LOG.append("entered")
    yield {"stock": Stock()}
    LOG.append("left")


@app.on("order.created")
async def reserve(order: Order, tx: Transaction, event: Delivery) -> None:
    LOG.append(f"reserve {event.event_id}")
    await tx.execute("update stock set count = count - $2 where sku = $1", order.sku, order.count)
    if await tx.fetchval("select count from stock where sku = $1", order.sku) < 0:
        raise Reject("sold out")


@app.on("order.*")
async def note(event: Delivery, stock: Stock) -> None:
    LOG.append(f"note {event.event_id}")


@app.on("report.*", when=lambda event: event.payload["urgent"])
def report(event: Delivery) -> None:
    LOG.append(f"report {event.event_id}")


@app.on("flaky", retry=Backoff(attempts=5, first=0.01, permanent=(KeyError,)))
async def flaky(event: Delivery) -> None:
    LOG.append(f"flaky {event.event_id}")
    raise {"missing": KeyError, "away": ConnectionError}[event.event_id]


wrong = App()


@wrong.lifespan
async def others() -> AsyncIterator[dict[str, object]]:
    yield {"stack": 1}


wrong.on("order.*")(note)

brittle = App()


@brittle.lifespan
async def away() -> AsyncIterator[dict[str, object]]:
    LOG.append("tried")
    raise ConnectionError("the warehouse does not answer")
    yield {}


brittle.otherwise(report)


@pytest.fixture
def servers(redis_url: str, database_url: str, tmp_path: Path) -> dict:
    LOG.clear()
    return {"redis_url": redis_url, "database_url": database_url, "directory": tmp_path}


def frame(event_id: str, kind: str | None, payload: object) -> str:
    return json.dumps({"event_id": event_id, "type": kind, "payload": payload})


def letters(servers: dict) -> dict[str | None, Letter]:
    path = servers["directory"] / "a.jsonl"
    return {one.letter.event_id: one.letter for one in read_letters(path)}


async def test_each_event_takes_the_form_of_its_route(servers: dict) -> None:
    connection = await asyncpg.connect(servers["database_url"])
    await connection.execute("create table stock (sku text, count int); insert into stock values ('a', 5)")
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:app") as one,
    ):
        await source.wait_for_clients(1)
        await source.send(
            frame("order", "order.created", {"sku": "a", "count": 2}),
            frame("too many", "order.created", {"sku": "a", "count": 9}),
            frame("wrong", "order.created", {"sku": "a", "count": "2"}),
            frame("paid", "order.paid", {}),
            frame("urgent", "report.daily", {"urgent": True}),
            frame("slow", "report.daily", {"urgent": False}),
            frame("untyped", None, {}),
        )
        await one.heard.until(lambda heard: len(heard.ids(EventsStored)) == 5 and len(heard.of(EventBuried)) == 2)
        ran = {fact.event_id for fact in one.heard.of(HandlerRan)}
        await source.send(frame("order", "order.created", {"sku": "a", "count": 2}))
        await one.heard.until(lambda heard: heard.ids(EventsDuplicate) == ["order"])
    assert LOG[0] == "entered"
    assert LOG[-1] == "left"
    assert sorted(LOG[1:-1]) == ["note paid", "report urgent", "reserve order", "reserve too many"]
    assert ran == {"order", "too many", "wrong", "paid", "urgent"}, "nothing runs for the others"
    rows = await rows_of(servers["database_url"])
    assert {row["event_id"] for row in rows} == {"order", "paid", "urgent", "slow", "untyped"}
    assert {row["handler"] for row in rows} == {f"{__name__}:app"}
    assert await connection.fetchval("select count from stock") == 3
    await connection.close()
    found = letters(servers)
    assert (found["too many"].reason, found["too many"].error_type) == ("rejected", "Reject")
    invalid = found["wrong"]
    assert (invalid.reason, invalid.stage, invalid.error_class) == ("invalid", "handle", "permanent")
    assert invalid.message == "the payload does not fit Order: Expected `int`, got `str` - at `$.count`"
    assert len(invalid.attempts) == 1
    counted, _ = unresolved_letters([servers["directory"] / "a.jsonl"])
    assert set(counted) == {"too many", "wrong"}, "both are copies of events that a producer may have accepted"


async def test_a_route_says_how_often_and_after_which_errors_it_is_tried_again(servers: dict) -> None:
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:app") as one,
    ):
        await source.wait_for_clients(1)
        await source.send(frame("away", "flaky", 1), frame("missing", "flaky", 1))
        await one.heard.until(lambda heard: len(heard.of(EventBuried)) == 2)
    assert (LOG.count("flaky away"), LOG.count("flaky missing")) == (5, 1)
    assert {id_: (one.reason, one.error_type) for id_, one in letters(servers).items()} == {
        "away": ("exhausted", "ConnectionError"), "missing": ("rejected", "KeyError"),
    }  # fmt: skip


async def test_the_test_kit_reports_what_a_listener_does(servers: dict) -> None:
    events: list[tuple[str, str | None, object]] = [
        ("order", "order.created", {"sku": "a", "count": 2}),
        ("wrong", "order.created", {"sku": "a", "count": "2"}),
        ("paid", "order.paid", {}),
        ("urgent", "report.daily", {"urgent": True}),
        ("odd", "report.daily", {}),
        ("untyped", None, {}),
        ("away", "flaky", 1),
        ("missing", "flaky", 1),
    ]
    connection = await asyncpg.connect(servers["database_url"])
    await connection.execute("create table stock (sku text, count int); insert into stock values ('a', 5)")
    await connection.close()
    async with (
        running_source() as source,
        running_listener(ws_url=source.url, **servers, handler=f"{__name__}:app") as one,
    ):
        await source.wait_for_clients(1)
        await source.send(*[frame(*event) for event in events])
        await one.heard.until(lambda heard: len(heard.ids(EventsStored)) + len(heard.of(EventBuried)) == len(events))
    found = letters(servers)
    words = {"exhausted": "letter", "rejected": "rejected", "invalid": "invalid"}
    seen = {
        id_: (words[found[id_].reason], len(found[id_].attempts), found[id_].message) if id_ in found else ("stored",)
        for id_, _, _ in events
    }
    async with TestApp(app, answers={"select count": 3}) as test:
        for id_, kind, payload in events:
            result = await test.send(payload, type=kind, event_id=id_)
            said = (result.outcome, len(result.failures), result.error) if result.is_letter else (result.outcome,)
            assert said == seen[id_], id_
    assert {said[0] for said in seen.values()} == {"stored", *words.values()}


async def test_a_resource_that_is_unknown_ends_the_start(servers: dict) -> None:
    with pytest.raises(Misconfigured, match=r"note\(\): nothing fills stock: .* and the lifespan yields stack"):
        async with (
            running_source() as source,
            running_listener(ws_url=source.url, **servers, handler=f"{__name__}:wrong") as one,
        ):
            await one.task


@pytest.mark.parametrize("on_its_wire", ["wired", "wired_in_a_thread"])
async def test_a_connection_of_psycopg_without_fast_connections_ends_the_start(servers: dict, on_its_wire: str) -> None:
    with pytest.raises(Misconfigured, match=r"work\(\): a connection of psycopg needs FAST=on"):
        async with (
            running_source() as source,
            running_listener(ws_url=source.url, **servers, handler=f"{__name__}:{on_its_wire}", fast="off") as one,
        ):
            await one.task


async def test_a_lifespan_is_tried_as_often_as_a_start(servers: dict) -> None:
    async with running_source() as source:
        with pytest.raises(Transient, match=r"the lifespan failed: ConnectionError: the warehouse"), suppress(KeyError):
            async with running_listener(
                ws_url=source.url, **servers, handler=f"{__name__}:brittle", startup_delay="0.01"
            ) as one:
                await one.task
    assert LOG == ["tried"] * 3
