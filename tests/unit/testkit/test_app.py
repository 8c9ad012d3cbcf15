"""``TestApp``: the outcome of each event, its attempts, and what was committed, without servers and without waiting."""

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from unlost import App, Backoff, Delivery, Reject, Retry, Transaction
from unlost.listener.core.errors import Misconfigured
from unlost.testing import Statement, TestApp, Unanswered

RAN: list[object] = []


class Order(msgspec.Struct):
    sku: str
    count: int


class Client:
    async def send(self, text: str) -> None:
        RAN.append(text)


def shop() -> App:
    app = App()

    @app.lifespan
    async def resources() -> AsyncIterator[dict[str, Any]]:
        RAN.append("entered")
        yield {"client": Client()}
        RAN.append("left")

    @app.on("order.created", retry=Backoff(attempts=3, first=60, jitter=False))
    async def reserve(order: Order, tx: Transaction, event: Delivery) -> None:
        await tx.execute("update stock set count = count - $2 where sku = $1", order.sku, order.count)
        if await tx.fetchval("select count from stock where sku = $1", order.sku) < 0:
            raise Reject("sold out")
        async with tx.savepoint():
            await tx.executemany("insert into log values ($1)", [("a",), ("b",)])
        if event.attempt < 3 and order.sku == "slow":
            raise ConnectionError("the warehouse does not answer")

    @app.on("mail")
    async def mail(payload: str, client: Client) -> None:
        await client.send(payload)

    @app.on("fails", retry=Backoff(attempts=4, first=600, permanent=(KeyError,), at_once=(OSError,)))
    def fail(payload: str) -> None:
        raise {"retry": Retry("later", after=7), "key": KeyError("k"), "at once": OSError("now")}[payload]

    return app


ANSWERS = {"select count": lambda sku: -1 if sku == "none" else 5}


@pytest.fixture
async def test() -> AsyncIterator[TestApp]:
    RAN.clear()
    async with TestApp(shop(), answers=ANSWERS) as test:
        yield test


async def test_a_row_and_what_was_committed_with_it(test: TestApp) -> None:
    result = await test.send(Order("a", 2), type="order.created")
    assert (result.outcome, result.attempts, result.is_letter, result.error) == ("stored", 1, False, "")
    assert result.statements == (
        Statement("update stock set count = count - $2 where sku = $1", ("a", 2)),
        Statement("select count from stock where sku = $1", ("a",)),
        Statement("insert into log values ($1)", ("a",)),
        Statement("insert into log values ($1)", ("b",)),
    )


async def test_pauses_pass_on_a_virtual_clock_and_only_the_last_attempt_is_committed(test: TestApp) -> None:
    began = time.monotonic()
    result = await test.send({"sku": "slow", "count": 1}, type="order.created")
    assert (result.outcome, result.attempts, result.waited, test.waited) == ("stored", 3, 180, 180)
    assert [one.error_type for one in result.failures] == ["ConnectionError"] * 2
    assert len(result.statements) == 4
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("kind", "payload", "outcome", "attempts", "error", "waited"),
    [
        ("order.created", {"sku": "none", "count": 1}, "rejected", 1, "sold out", 0),
        ("order.created", {"sku": "a"}, "invalid", 1, "Object missing required field `count`", 0),
        ("fails", "retry", "letter", 4, "later", 21),
        ("fails", "key", "rejected", 1, "'k'", 0),
        ("fails", "at once", "letter", 4, "now", 0),
        ("unknown", 1, "stored", 0, "", 0),
    ],
)
async def test_each_outcome(
    test: TestApp, kind: str, payload: object, outcome: str, attempts: int, error: str, waited: float
) -> None:
    result = await test.send(payload, type=kind)
    assert (result.outcome, result.attempts, result.waited) == (outcome, attempts, waited)
    assert error in result.error
    assert len(result.failures) == (attempts if result.is_letter else 0)


async def test_an_event_ends_once(test: TestApp) -> None:
    first = await test.send("hello", type="mail", event_id="a")
    assert [(await test.send(text, type="mail", event_id="a")).outcome for text in ("hello", "other")] == [
        "duplicate",
        "conflict",
    ]
    await test.send("key", type="fails", event_id="b")
    assert (await test.send("key", type="fails", event_id="b")).outcome == "duplicate", "it is a letter already"
    assert first.attempts == 1
    assert RAN == ["entered", "hello"]


async def test_resources_of_the_test_take_the_place_of_the_lifespan() -> None:
    RAN.clear()

    class Fake:
        async def send(self, text: str) -> None:
            RAN.append(f"fake {text}")

    async with TestApp(shop(), resources={"client": Fake()}) as test:
        await test.send("hello", type="mail")
    assert RAN == ["fake hello"]


async def test_a_query_without_an_answer_fails_the_test() -> None:
    async with TestApp(shop()) as test:
        with pytest.raises(Unanswered, match="no answer for 'select count from stock"):
            await test.send({"sku": "a", "count": 1}, type="order.created")


async def test_a_session_needs_a_database() -> None:
    app = App()

    @app.on("x")
    async def write(session: AsyncSession) -> None:
        await session.execute(text("select 1"))

    async with TestApp(app) as test:
        with pytest.raises(Unanswered, match=r"TestApp\(postgres=True\)"):
            await test.send(1, type="x")


async def handle(event: Delivery) -> None:
    raise ValueError(event.event_id)


async def test_a_function_is_tried_as_the_settings_say() -> None:
    async with TestApp(handle) as test:
        result = await test.send(1, event_id="e")
    assert (result.outcome, result.attempts, result.waited, result.error) == ("letter", 3, 4, "e")


def test_an_ordinary_test_runs_it_too() -> None:
    with TestApp(f"{__name__}:handle") as test:
        assert test.run(1).outcome == "letter"


def test_the_fixture_enters_and_leaves_it(unlost_app: Any) -> None:
    RAN.clear()
    test = unlost_app(shop())
    assert test.run("hello", type="mail").outcome == "stored"
    assert RAN == ["entered", "hello"]
    with pytest.raises(RuntimeError, match="there is no PostgreSQL"):
        _ = test.connection


def test_an_application_that_cannot_start_does_not_start_in_a_test() -> None:
    app = App()

    @app.on("x", timeout=99)
    async def slow(event: Delivery) -> None: ...

    with pytest.raises(Misconfigured, match="timeout=99"):
        TestApp(app)
    with pytest.raises(Misconfigured, match="has no function"):
        TestApp(7)
