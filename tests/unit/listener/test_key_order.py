"""Order per key: the key of an event, and the state of a key as a table."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import as_a
from tests.support.stand_ins import flight
from unlost.listener.app.settings import MOST_DECLARED, ListenerSettings, handler_of
from unlost.listener.app.sources import check_order, check_shard
from unlost.listener.core.errors import Misconfigured
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.order_key import LONGEST, key_reader, nearest_key
from unlost.listener.pipeline.key_order import KeyOrder
from unlost.listener.ports.source import Source


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


@pytest.mark.parametrize(
    ("order_by", "of_source", "of_type", "key"),
    [
        ("payload.a", "", None, "1 of s"),
        ("payload.a", "payload.b", None, "2 of s"),
        ("payload.a", "payload.b", "payload.c", "3 of s"),
        ("payload.a", "payload.b", "", "2 of s"),
        ("", "", "payload.c", "3 of s"),
        ("payload.a", "", "payload.missing", None),
        ("", "", "", None),
    ],
)
def test_the_path_that_is_declared_nearest_to_the_event_counts(
    order_by: str, of_source: str, of_type: str | None, key: str | None
):
    event = parse(b'{"event_id":"e","type":"t","payload":{"a":1,"b":2,"c":3}}', max_bytes=999)
    read = nearest_key(order_by, of_source, None if of_type is None else lambda _: str(of_type))
    assert (read and read(event, "s")) == key


def test_without_any_path_nothing_is_read():
    assert nearest_key("", "", None) is None


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


def test_events_held_behind_the_first_make_one_run_with_it():
    order, events = KeyOrder(), [keyed(f"a{number}", "a") for number in range(5)]
    order.admit(events)
    assert order.next_of(events[0], 2) == events[1:3]
    order.claim_ahead(events[1:4])
    held = {events[1], events[2]}
    assert order.settled(events[0]) is events[1]
    assert order.run_of(events[1], 9, lambda one: one in held) == [events[2]]
    assert (order.waiting, list(order.ahead)) == (2, [events[3]])
    assert order.settled(events[1]) is None
    assert order.settled(events[2]) is events[3], "the next turn comes once the whole run is settled"


def test_a_run_that_waits_again_keeps_its_order_and_its_claims():
    order, events = KeyOrder(), [keyed(f"a{number}", "a") for number in range(5)]
    order.admit(events)
    assert order.run_of(events[0], 3, lambda _: True) == events[1:4]
    order.wait_again(events[1:4])
    assert (order.waiting, list(order.ahead)) == (4, events[3:0:-1])
    for before, after in itertools.pairwise(events):
        assert order.settled(before) is after
    assert order.settled(events[4]) is None
    assert (order.waiting, order.ahead) == (0, {})


def test_an_event_that_has_ended_does_not_wait_again():
    order, events = KeyOrder(), [keyed(f"a{number}", "a") for number in range(4)]
    order.admit(events)
    assert order.run_of(events[0], 9, lambda _: True) == events[1:]
    order.settled(events[2])
    order.wait_again(events[1:])
    assert (order.waiting, list(order.ahead)) == (2, [events[3], events[1]])
    assert order.settled(events[0]) is events[1]
    assert order.settled(events[1]) is events[3]


def test_nothing_is_kept_of_a_key_whose_events_are_settled():
    order = KeyOrder()
    for number in range(1_000):
        events = [keyed(f"{number} {place}", f"k{number}") for place in range(4)]
        order.admit(events)
        order.claim_ahead(events[1:])
        order.run_of(events[0], 1, lambda _: True)
        for one in events:
            order.settled(one)
    assert not any(vars(order).values())


def test_an_event_that_a_peer_settled_loses_its_turn():
    order, events = KeyOrder(), [keyed(f"a{number}", "a") for number in range(3)]
    order.admit(events)
    assert order.settled(events[1]) is None
    assert order.settled(events[0]) is events[2]


def test_events_from_letters_wait_for_nothing_here():
    order = KeyOrder()
    first, letter = keyed("a1", "a"), keyed("a0", "a", revive=True)
    assert order.admit([first, letter]) == [first, letter]
    assert order.settled(letter) is None
    assert order.settled(first) is None
    assert order.waiting == 0


@given(st.lists(st.tuples(st.sampled_from(("enter", "enter", "settle")), st.integers(0, 30)), max_size=60))
def test_only_the_oldest_unsettled_event_of_each_key_may_be_claimed(steps: list[tuple[str, int]]):
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

    def __init__(self, name: str, *, shared: bool, partitioned: bool = False) -> None:
        self.name, self.shared, self.partitioned = name, shared, partitioned


def some(name: str, *, shared: bool, partitioned: bool = False) -> Source:
    return as_a(Source, Some(name, shared=shared, partitioned=partitioned))


def test_a_source_that_deals_out_its_messages_has_no_order_to_keep():
    stream, queue = some("ws://stream", shared=False), some("nats://queue", shared=True)
    check_order("payload.a", [stream, some("kafka://topic", shared=True, partitioned=True)])
    check_order("", [stream, queue])
    with pytest.raises(Misconfigured, match=r"ORDER_BY=payload.a cannot be kept for nats://queue: "):
        check_order("payload.a", [stream, queue])


def test_a_key_of_a_route_needs_such_a_source_too():
    queue = some("nats://queue", shared=True)
    with pytest.raises(Misconfigured, match=r"^key='a' of order.\* cannot be kept for nats://queue: "):
        check_order("", [queue], {"order.*": "a"})


def test_listeners_declare_their_keys():
    settings = ListenerSettings.load({"ws_url": "ws://x", "handler": "a:b", "order_by": "payload.a"})
    assert settings.declared_with({}, {}) == settings.declared == "a:b@ ordered by payload.a"
    keys = {"order.*": "c", "b": "d"}
    assert settings.declared_with(keys, {}) == "a:b@ ordered by payload.a; d of b, c of order.*"
    assert settings.declared_with(keys, {"b": "stop", "c": "continue"}) == (
        "a:b@ ordered by payload.a; d of b, then stop of b, then continue of c, c of order.*"
    )
    many = {f"type.{number}": "account" for number in range(50)}
    declared = settings.declared_with(many, {})
    assert declared is not None
    assert len(declared) < MOST_DECLARED
    assert declared != settings.declared_with(many | {"one": "more"}, {})
    assert handler_of(declared) == "a:b"


def test_a_shard_keeps_no_order():
    stream = some("ws://stream", shared=False, partitioned=False)
    check_shard("orders", "payload.a", [stream], {"order.*": "a"})
    check_shard("orders-shard1of2", "", [stream], {})
    for order_by, routes in (("payload.a", {}), ("", {"order.*": "a"})):
        with pytest.raises(Misconfigured, match="cannot be kept by GROUP=orders-shard1of2"):
            check_shard("orders-shard1of2", order_by, [stream], routes)


@pytest.mark.parametrize("name", ["amqp://h/queue", "kafka://h/topic/mine", "slack.toml", "nats://h/s/unlost-orders"])
def test_a_shard_reads_no_source_that_gives_a_message_to_one_consumer_of_all_shards(name: str):
    dealt = some(name, shared=True, partitioned=True)
    check_shard("orders", "", [dealt], {})
    with pytest.raises(Misconfigured, match="cannot be read by GROUP=orders-shard1of2"):
        check_shard("orders-shard1of2", "", [dealt], {})


def test_each_shard_has_a_consumer_of_its_own():
    for name in ("kafka://h/topic/unlost-orders-shard1of2", "nats://h/s/unlost-orders-shard1of2"):
        check_shard("orders-shard1of2", "", [some(name, shared=True)], {})
