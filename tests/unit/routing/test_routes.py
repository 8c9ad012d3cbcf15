"""Which route takes an event, and which applications cannot start."""

from typing import Any

import pytest

from tests.unit.routing.apps import flight, opened, run, run_app
from unlost import App, Backoff, Delivery, Reject, Transaction
from unlost.listener.core.attempts import AttemptPolicy
from unlost.listener.core.errors import Misconfigured
from unlost.listener.pipeline.handlers import HandlerFailed
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.table import RouteTable

TAKEN: list[str] = []


def of(app: App, name: str, *types: str, **options: Any) -> None:
    async def take(payload: Any) -> None:
        TAKEN.append(name)

    take.__qualname__ = name
    app.on(*types, **options)(take)


def shop() -> App:
    app = App()
    of(app, "any", "*")
    of(app, "orders", "order.*")
    of(app, "created", "order.created")
    of(app, "large", "order.created", when=lambda event: event.payload > 10)
    return app


@pytest.mark.parametrize(
    ("event_type", "payload", "taken"),
    [
        ("order.created", "1", "created"),
        ("order.created", "11", "large"),
        ("order.paid", "1", "orders"),
        ("payment", "1", "any"),
    ],
)
async def test_the_most_specific_route_whose_condition_holds_takes_an_event(
    event_type: str, payload: str, taken: str
) -> None:
    TAKEN.clear()
    assert await run_app(shop(), flight(payload, event_type)) == "plain"
    assert [taken] == TAKEN


async def test_an_event_without_a_route_is_stored_without_running_anything() -> None:
    app = App()
    of(app, "large", "order.*", when=lambda event: event.payload > 10)
    handler = await opened(app)
    assert [handler.runs(kind) for kind in (None, "payment", "order.created")] == [False, False, True]
    assert [handler.looks_before(kind) for kind in (None, "order.created")] == [False, True]
    assert await run(handler, flight("1", "order.created")) == "store", "its condition does not hold"


async def test_a_function_for_all_other_events_takes_also_those_without_a_type() -> None:
    app = shop()

    @app.otherwise
    async def rest(event: Delivery) -> None:
        TAKEN.append("rest")

    TAKEN.clear()
    await run_app(app, flight())
    assert TAKEN == ["rest"]


async def test_unknown_events_are_rejected_if_the_application_says_so() -> None:
    app = App()
    of(app, "orders", "order.*")
    app.reject_unknown()
    handler = await opened(app)
    for kind in ("payment", None):
        assert handler.runs(kind)
        assert handler.looks_before(kind), "it may be a row already, stored by an earlier version"
        with pytest.raises(Reject, match="no route takes"):
            handler.prepare(flight("1", kind), 1)


async def test_a_condition_that_raises_fails_the_attempt() -> None:
    app = App()
    of(app, "odd", "order.*", when=lambda event: event.payload["no such"])
    handler = await opened(app)
    with pytest.raises(HandlerFailed) as failed:
        handler.prepare(flight("{}", "order.x"), 1)
    assert failed.value.error_type == "KeyError"


async def test_routes_of_both_forms_live_in_one_application() -> None:
    app = App()
    seen: list[object] = []

    @app.on("a")
    async def plain(event: Delivery) -> None:
        seen.append(event.event_id)

    @app.on("b")
    async def shared(tx: Transaction) -> None:
        seen.append(tx)

    handler = await opened(app)
    assert [handler.looks_before(kind) for kind in "ab"] == [True, False]
    assert [await run(handler, flight("1", kind), object()) for kind in "ab"] == ["plain", "transaction"]
    assert seen[0] == "e"
    assert isinstance(seen[1], Transaction)


async def test_types_that_a_source_invents_are_not_remembered_without_end() -> None:
    table = RouteTable([], None, "reject")
    first = table.candidates("order.0")
    assert table.candidates("order.0") is first
    for number in range(3_000):
        assert table.candidates(f"order.{number}").runs
    assert table.candidates("order.0") is not first


def mistakes(app: App) -> str:
    with pytest.raises(Misconfigured) as refused:
        AppHandler("shop:app", app)
    return str(refused.value)


def test_all_mistakes_of_an_application_are_reported_at_once() -> None:
    app = App()
    of(app, "one", "order.*")
    of(app, "two", "*.created")
    of(app, "three", "")
    of(app, "four")
    of(app, "five", "order.*")
    app.reject_unknown()

    async def asks(event: Delivery) -> bool:
        return True

    of(app, "six", "x", when=asks)

    @app.otherwise
    async def rest() -> None: ...

    app.otherwise(rest)
    said = mistakes(app).splitlines()
    assert all(line.startswith("HANDLER=shop:app: ") for line in said)
    assert [line.removeprefix("HANDLER=shop:app: ") for line in said] == [
        "six(): when= is a plain function, not an `async def`",
        "@app.otherwise occurs twice",
        "@app.otherwise and reject_unknown() exclude each other",
        "three(): an empty pattern matches nothing; events without a type go to @app.otherwise",
        "four(): on() names no type",
        "order.* of one() and *.created of two() overlap, and neither is more specific",
        "one() and five() both take order.*: give one of them a condition (when=)",
        "*.created of two() and order.* of five() overlap, and neither is more specific",
    ]


def test_an_application_without_routes_does_not_start() -> None:
    assert "has no route" in mistakes(App())


async def test_each_event_has_the_attempts_of_its_route() -> None:
    app, often = App(), Backoff(attempts=8)
    of(app, "small", "order.*", concurrency=2)
    of(app, "large", "order.*", when=lambda event: event.payload["total"] > 10, retry=often)
    of(app, "same", "a", timeout=3)
    of(app, "same", "b", timeout=4)
    handler = await opened(app)

    def policy(payload: str, kind: str) -> AttemptPolicy:
        return handler.policy_of(flight(payload, kind).event)

    assert policy('{"total": 11}', "order.x") == AttemptPolicy("large", retry=often)
    assert policy('{"total": 1}', "order.x") == AttemptPolicy("small", concurrency=2)
    assert policy("{}", "order.x").route == "large", "its condition raises, and the attempt will too"
    assert policy("1", "a") != policy("1", "b")
    assert len({one.route for one in handler.policies}) == 4
    assert policy("1", "unknown") == AttemptPolicy("shop:app")


async def test_a_condition_that_would_end_the_process_fails_the_attempt() -> None:
    app = App()

    def leave(event: Delivery) -> bool:
        raise SystemExit(3)

    of(app, "odd", "order.*", when=leave)
    handler = await opened(app)
    with pytest.raises(HandlerFailed):
        handler.prepare(flight("{}", "order.x"), 1)
