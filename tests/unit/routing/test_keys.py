"""The keys of routes: in whose order their events are processed."""

import pytest

from unlost.listener.app.embedding import App
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.handler import AppHandler


async def one(event: Delivery) -> None:
    """A handler."""


async def other(event: Delivery) -> None:
    """Another."""


def test_the_most_specific_pattern_decides_and_other_types_have_none():
    app = App()
    app.on("order.*", key="account.id")(one)
    app.on("order.paid", key="payer")(other)
    handler = AppHandler("m:app", app)
    assert [handler.key_of_type(name) for name in ("order.paid", "order.made", "news", None)] == [
        "payload.payer", "payload.account.id", "", "",
    ]  # fmt: skip
    assert handler.keys == {"order.*": "account.id", "order.paid": "payer"}


def test_the_route_for_all_others_may_have_a_key():
    app = App()
    app.otherwise(key="device")(one)
    handler = AppHandler("m:app", app)
    assert handler.key_of_type(None) == handler.key_of_type("any") == "payload.device"


@pytest.mark.parametrize("key", ["", ".a", "a..b", "a b", "a.", "a.b.c.d.e.f.g.h"])
def test_a_key_is_a_path_in_the_payload(key: str):
    app = App()
    app.on("order.*", key=key)(one)
    with pytest.raises(Misconfigured, match=r"HANDLER=m:app: one\(\): key='.*' must be a path in the payload"):
        AppHandler("m:app", app)


def test_a_route_may_have_a_policy_of_its_own_with_or_without_a_key():
    app = App()
    app.on("order.*", key="account", after_letter="stop")(one)
    app.on("price", after_letter="continue")(other)
    app.otherwise(after_letter="park")(other)
    handler = AppHandler("m:app", app)
    assert [handler.after_letter_of_type(name) for name in ("order.paid", "price", None)] == [
        "stop",
        "continue",
        "park",
    ]
    assert handler.after_letters == {"order.*": "stop", "price": "continue", "otherwise": "park"}
    assert handler.keys == {"order.*": "account"}


def test_a_policy_is_one_of_three():
    app = App()
    app.on("order.*", after_letter="halt")(one)  # type: ignore[arg-type]
    with pytest.raises(Misconfigured, match=r"one\(\): after_letter='halt' must be one of park, continue, stop"):
        AppHandler("m:app", app)


def test_a_route_with_a_condition_needs_the_policy_of_those_that_take_what_it_passes_on():
    app = App()
    app.on("order.paid", when=lambda _: False, key="account", after_letter="stop")(one)
    app.on("order.*", key="account")(other)
    with pytest.raises(Misconfigured, match=r"one\(\) has a condition, .* give both the same after_letter=$"):
        AppHandler("m:app", app)


@pytest.mark.parametrize("pattern", ["order.*", "order.paid", "*"])
def test_a_route_with_a_condition_needs_the_key_of_those_that_take_what_it_passes_on(pattern: str):
    app = App()
    app.on("order.paid", when=lambda _: False, key="payer")(one)
    app.on(pattern, key="account")(other)
    with pytest.raises(Misconfigured, match=r"one\(\) has a condition, and other\(\) may take what it passes on"):
        AppHandler("m:app", app)
    same = App()
    same.on("order.paid", when=lambda _: False, key="account")(one)
    same.on(pattern, key="account")(other)
    assert AppHandler("m:app", same).key_of_type("order.paid") == "payload.account"
