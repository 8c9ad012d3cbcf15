"""Failures that a person would call the same share a fingerprint, and others do not."""

import json

import pytest

from unlost.dlq.record.fingerprint import fingerprint
from unlost.listener.core.event import parse


def of(message: str, error: str = "ValueError", payload: object = None, event_id: str = "e", **more: str) -> str:
    frame = json.dumps({"event_id": event_id, "payload": payload, **more}).encode()
    return fingerprint("exhausted", error, message, None, "handle", parse(frame, max_bytes=10_000))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no such order 5", "no such order 66"),
        ("no such order ord_7fK2", "no such order ord_9xQ4z"),
        ("no such order A-17", "no such order B-4711-x"),
        ("no such order 'A'", 'no such order "B"'),
        ("no user ann@example.org", "no user bob.b@shop.example.com"),
        ("GET https://shop.example/orders/ab?x=1: 500", "GET https://shop.example/orders/cd/e: 500"),
        ("took 0.25 s", "took 11 s"),
    ],
)
def test_ids_and_figures_in_a_message_make_no_other_group(one: str, other: str) -> None:
    assert of(one) == of(other)


def test_values_of_the_event_in_a_message_make_no_other_group() -> None:
    ann, bob = {"customer": {"name": "Ann Miller"}}, {"customer": {"name": "Bob"}, "tags": ["x"]}
    assert of("Ann Miller owes money", payload=ann) == of("Bob owes money", payload=bob)
    assert of("order first-one is late", event_id="first-one") == of("order second-one is late", event_id="second-one")
    assert of("'ann'", "KeyError", {"user": "ann"}) == of("'bob'", "KeyError", {"user": "bob"})


def test_the_type_of_the_event_makes_no_other_group() -> None:
    assert of("the bank does not answer", type="paid") == of("the bank does not answer", type="refunded")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("'sku'", "KeyError"), ("'price'", "KeyError")),
        (("'Order' object has no attribute 'total'", "AttributeError"),
         ("'Order' object has no attribute 'tax'", "AttributeError")),
        (("no such order", "ValueError"), ("no such order", "LookupError")),
        (("no such order", "ValueError"), ("no such customer", "ValueError")),
        (("https://bank.example/a: refused", "OSError"), ("https://stock.example/a: refused", "OSError")),
    ],
)  # fmt: skip
def test_other_failures_are_other_groups(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert of(*one) != of(*other)


def test_a_constraint_distinguishes_failures_of_the_database() -> None:
    def violated(name: str) -> str:
        message = f'duplicate key value violates unique constraint "{name}"'
        return fingerprint("exhausted", "UniqueViolationError", message, "23505", "handle", None)

    assert violated("orders_pkey") != violated("stock_pkey")
