"""Order per key: the key of an event, and the state of a key as a table."""

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.stand_ins import flight
from unlost.listener.app.sources import check_order
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.order_key import LONGEST, key_reader
from unlost.listener.pipeline.key_order import KeyOrder


def key_at(path: str, event: object) -> str | None:
    return key_reader(path)(parse(json.dumps(event), max_bytes=100_000), "s")


@pytest.mark.parametrize(
    ("path", "event", "key"),
    [
        ("payload.a", {"event_id": "e", "payload": {"a": "x"}}, "x of s"),
        ("payload.a", {"event_id": "e", "payload": {"a": 12}}, "12 of s"),
        ("payload.a", {"event_id": "e", "payload": {"a": "12"}}, "12 of s"),
        ("payload.a.b-c", {"event_id": "e", "payload": {"a": {"b-c": -7}, "z": [1]}}, "-7 of s"),
        (
            "payload.a",
            {"event_id": "e", "a": "no payload: the object itself is one"},
            "no payload: the object itself is one of s",
        ),
        ("device", {"event_id": "e", "payload": 1, "device": "d"}, "d of s"),
        ("device.id", {"event_id": "e", "payload": 1, "device": {"id": "d"}}, "d of s"),
        ("type", {"event_id": "e", "payload": 1, "type": "t"}, "t of s"),
        ("payload", {"event_id": "e", "payload": "p"}, "p of s"),
        ("payload.a", {"event_id": "e", "payload": {"b": 1}}, None),
        ("payload.a", {"event_id": "e", "payload": [1]}, None),
        ("payload.a.b", {"event_id": "e", "payload": {"a": "x"}}, None),
        ("payload.a", {"event_id": "e", "payload": {"a": None}}, None),
        ("payload.a", {"event_id": "e", "payload": {"a": 1.5}}, None),
        ("payload.a", {"event_id": "e", "payload": {"a": True}}, None),
        ("payload.a", {"event_id": "e", "payload": {"a": ""}}, None),
        ("device", {"event_id": "e", "payload": 1}, None),
        ("type", {"event_id": "e", "payload": 1}, None),
    ],
)
def test_a_key_is_a_text_or_a_whole_number(path: str, event: object, key: str | None):
    assert key_at(path, event) == key


def test_a_key_is_found_by_its_decoded_name():
    frame = b'{"event_id":"e","payload":{"\\u0061":"x"}}'
    assert key_reader("payload.a")(parse(frame, max_bytes=999), "s") == "x of s"


def test_a_long_key_is_replaced_by_its_digest():
    long = key_at("payload.a", {"event_id": "e", "payload": {"a": "x" * (LONGEST + 1)}})
    assert long is not None
    assert long.startswith("sha256:")
    assert len(long) < LONGEST
    assert key_at("payload.a", {"event_id": "e", "payload": {"a": "x" * LONGEST}}) == "x" * LONGEST + " of s"


def keyed(name: str, key: str | None, *, revive: bool = False) -> InFlight:
    one = flight(name)
    one.order_key, one.revive = key, revive
    return one


TABLE = [
    # what happens, in order: an event enters (with what may be claimed then), or is settled (with what follows)
    ("one key goes one by one", [("+a1", "a1"), ("+a2", ""), ("+a3", ""), ("-a1", "a2"), ("-a2", "a3"), ("-a3", "")]),
    ("keys are independent", [("+a1", "a1"), ("+b1", "b1"), ("+a2", ""), ("-b1", ""), ("-a1", "a2"), ("-a2", "")]),
    ("without a key all are free", [("+_1", "_1"), ("+_2", "_2"), ("-_2", ""), ("-_1", "")]),
    ("twice is as once", [("+a1", "a1"), ("+a2", ""), ("+a3", ""), ("-a1", "a2"), ("-a1", ""), ("-a2", "a3")]),
    ("a key that was empty starts anew", [("+a1", "a1"), ("-a1", ""), ("+a2", "a2"), ("-a2", "")]),
    ("what ends while it waits is passed over", [("+a1", "a1"), ("+a2", ""), ("+a3", ""), ("-a2", ""), ("-a1", "a3")]),
    (
        "one that goes on under another claim stays the first",
        [("+a1", "a1"), ("+a2", ""), ("+a1", "a1"), ("-a1", "a2")],
    ),
]


@pytest.mark.parametrize(("about", "steps"), TABLE, ids=[about for about, _ in TABLE])
def test_the_states_of_a_key(about: str, steps: list[tuple[str, str]]):
    order, flights = KeyOrder(), dict[str, InFlight]()
    for step, expected in steps:
        name = step[1:]
        one = flights.setdefault(name, keyed(name, None if name[0] == "_" else name[0]))
        following = order.settled(one) if step[0] == "-" else None
        found = order.admit([one]) if step[0] == "+" else [following] if following else []
        assert "".join(each.claim_id for each in found) == expected, f"{about}: {step}"


def test_events_from_letters_wait_for_nothing_here():
    order = KeyOrder()
    first, letter = keyed("a1", "a"), keyed("a0", "a", revive=True)
    assert order.admit([first, letter]) == [first, letter]
    assert order.settled(letter) is None
    assert order.settled(first) is None
    assert order.waiting == 0


@given(st.lists(st.tuples(st.sampled_from(("enter", "enter", "settle")), st.integers(0, 30)), max_size=60))
def test_of_each_key_exactly_the_oldest_unsettled_event_may_be_claimed(steps: list[tuple[str, int]]):
    order = KeyOrder()
    memory: dict[str, list[InFlight]] = {"a": [], "b": [], "c": []}
    may_go: set[str] = set()
    for number, (what, chance) in enumerate(steps):
        key = "abc"[chance % 3]
        if what == "enter":
            one = keyed(f"{key}{number}", key)
            memory[key].append(one)
            may_go.update(each.claim_id for each in order.admit([one]))
        elif memory[key]:
            one = memory[key].pop(chance % len(memory[key]))
            may_go.discard(one.claim_id)
            if (following := order.settled(one)) is not None:
                may_go.add(following.claim_id)
        assert may_go == {events[0].claim_id for events in memory.values() if events}
        assert order.waiting == sum(max(0, len(events) - 1) for events in memory.values())
    assert all(order.admit([keyed(f"last {key}", key)]) == [] for key, events in memory.items() if events)


class Some:
    """A source of some kind."""

    resumes = True

    def __init__(self, name: str, *, shared: bool) -> None:
        self.name, self.shared = name, shared


class Partitioned(Some):
    partitioned = True


def test_a_source_that_deals_out_its_messages_has_no_order_to_keep():
    stream, queue = cast("Any", Some("ws://stream", shared=False)), cast("Any", Some("nats://queue", shared=True))
    check_order("payload.a", [stream, cast("Any", Partitioned("kafka://topic", shared=True))])
    check_order("", [stream, queue])
    with pytest.raises(Misconfigured, match=r"ORDER_BY=payload.a cannot be kept for nats://queue: "):
        check_order("payload.a", [stream, queue])
