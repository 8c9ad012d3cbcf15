"""Upcasters: payloads of older versions reach routes in the newest, rows keep what was sent, and gaps end the start."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from unlost import App, Delivery, Reject
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.event import parse
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.upcasting import Upcasters
from unlost.testing import TestApp

SEEN: list[object] = []


class Order(msgspec.Struct):
    sku: str
    count: int
    currency: str


def shop(**options: Any) -> App:
    app = App(**options)

    @app.upcast("order.created", from_version=2)
    def with_currency(payload: dict[str, Any]) -> dict[str, Any]:
        if payload["count"] == 13:
            raise Reject("no order has 13")
        return payload | {"currency": "EUR"}

    @app.upcast("order.created", from_version=1)
    def with_count(payload: dict[str, Any]) -> dict[str, Any]:
        return {"sku": payload["item"], "count": int(payload["count"])}

    @app.on("order.created", when=lambda event: event.payload["currency"] == "USD")
    async def dollars(order: Order) -> None:
        SEEN.append("dollars")

    @app.on("order.created")
    async def created(order: Order, event: Delivery) -> None:
        SEEN.append(order)
        assert event.payload == msgspec.to_builtins(order)

    return app


OLD, MIDDLE, NEW = {"item": "a", "count": "2"}, {"sku": "a", "count": 2}, {"sku": "a", "count": 2, "currency": "EUR"}


@pytest.mark.parametrize(
    ("payload", "version"), [(OLD, {}), (OLD, {"version": 1}), (MIDDLE, {"version": "2"}), (NEW, {"version": 3})]
)
async def test_every_version_reaches_the_route_as_the_newest(payload: object, version: dict[str, Any]) -> None:
    SEEN.clear()
    async with TestApp(shop()) as test:
        assert (await test.send(payload, type="order.created", fields=version)).outcome == "stored"
    assert [Order("a", 2, "EUR")] == SEEN


async def test_the_version_may_stand_in_the_payload() -> None:
    SEEN.clear()
    async with TestApp(shop(version_field="payload.meta.version")) as test:
        await test.send({**MIDDLE, "meta": {"version": 2}}, type="order.created")
        await test.send({**NEW, "currency": "USD", "meta": {"version": 4}}, type="order.created")
    assert SEEN[-1] == "dollars", "a newer version passes as it is"


def test_an_event_that_is_its_own_payload_has_its_version_there() -> None:
    app = shop()
    event = parse(json.dumps({"event_id": "e", "type": "order.created", "version": 2, **MIDDLE}), max_bytes=1_000)
    newest = Upcasters(app.upcasts, app.version_field).newest(event)
    assert json.loads(newest.payload) == {"version": 2, **NEW}
    assert (newest.digest, newest.frame) == (event.digest, event.frame)


async def test_the_row_keeps_what_was_sent() -> None:
    handler = AppHandler("test:app", shop())
    event = parse(json.dumps({"event_id": "e", "type": "order.created", "payload": OLD}), max_bytes=1_000)
    assert handler.runs("order.created")
    before = event.payload
    handler.policy_of(event)
    assert event.payload == before


@pytest.mark.parametrize(
    ("payload", "fields", "outcome", "why"),
    [
        (MIDDLE, {"version": 0}, "invalid", "a whole number from 1 on"),
        (MIDDLE, {"version": True}, "invalid", "a whole number from 1 on"),
        (MIDDLE, {"version": "1.2"}, "invalid", "a whole number from 1 on"),
        ({"count": 1}, {"version": 1}, "letter", "item"),
        ({"sku": "a", "count": 13}, {"version": 2}, "rejected", "no order has 13"),
    ],
)
async def test_an_event_that_cannot_be_upcast_is_a_letter_with_the_reason(
    payload: object, fields: dict[str, Any], outcome: str, why: str
) -> None:
    async with TestApp(shop()) as test:
        result = await test.send(payload, type="order.created", fields=fields)
    assert result.outcome == outcome
    assert why in result.failures[-1].message


@pytest.mark.parametrize(("returns", "why"), [(None, "returned None"), ({1, 2, object()}, "what is no JSON")])
async def test_an_upcaster_that_returns_no_payload_fails_its_event(returns: object, why: str) -> None:
    app = App()
    app.upcast("order", from_version=1)(lambda payload: returns)
    app.on("order")(lambda payload: None)
    async with TestApp(app) as test:
        result = await test.send({}, type="order")
    assert (result.outcome, why in result.failures[-1].message) == ("letter", True)


async def test_upcasters_that_begin_later_refuse_what_is_older() -> None:
    app = App()
    app.upcast("order", from_version=2)(lambda payload: payload)
    app.on("order")(lambda payload: None)
    async with TestApp(app) as test:
        assert (await test.send({}, type="order")).outcome == "invalid"
        assert (await test.send({}, type="order", fields={"version": 2})).outcome == "stored"
        assert (await test.send({}, type="other")).outcome == "stored"


async def late(payload: object) -> object:
    return payload


def same(payload: object) -> object:
    return payload


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ([("o", 1, same), ("o", 3, same)], "o has upcasters from version 1 and 3, and none from 2"),
        ([("o", 1, same), ("o", 1, late)], "both upcast o from version 1"),
        ([("o", 1, late)], "a plain function, not an `async def`"),
        ([("o.*", 1, same)], "is for one type, and 'o.*' is a pattern"),
        ([("o", 0, same)], "versions begin with 1"),
    ],
)
def test_upcasts_that_make_no_chain_end_the_start(
    declared: list[tuple[str, int, Callable[..., Any]]], why: str
) -> None:
    app = App()
    app.on("o")(same)
    for event_type, version, function in declared:
        app.upcast(event_type, from_version=version)(function)
    with pytest.raises(Misconfigured) as refused:
        AppHandler("shop:app", app)
    assert why in str(refused.value)
    with pytest.raises(Misconfigured, match="version_field"):
        AppHandler("shop:app", shop(version_field="payload..x"))
