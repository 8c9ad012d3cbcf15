"""The tests of the example: pytest docs/examples/prices"""

import json

from prices import SUBSCRIPTIONS, Prices

from unlost.testing import TestFeed


def results(feed: TestFeed, *messages: object) -> list[tuple[str, str | None, str]]:
    return [(one.what, one.event_id, one.detail) for one in feed.read(*(json.dumps(each) for each in messages))]


def bid(**data: object) -> object:
    return {"type": "next", "id": "bid", "payload": {"data": {"bid": data}}}


def test_an_item_of_each_subscription_is_an_event() -> None:
    feed = TestFeed(Prices())
    (found,) = feed.read(json.dumps(bid(id="b1", price="4.20")))
    assert (found.what, found.event_id, found.type) == ("event", "b1", "bid")
    assert json.loads(found.payload) == {"id": "b1", "price": "4.20"}


def test_an_item_without_an_id_and_an_error_of_a_resolver_are_dead_letters() -> None:
    failed = {"type": "next", "id": "bid", "payload": {"data": {"bid": None}, "errors": [{"message": "no price"}]}}
    feed = TestFeed(Prices())
    assert [what for what, _, _ in results(feed, bid(price=1), failed, "hello")] == ["invalid"] * 3


def test_pings_are_answered() -> None:
    assert results(TestFeed(Prices()), {"type": "ping"})[0] == ("sent", None, '{"type":"pong"}')


def test_a_completed_subscription_is_a_gap_and_begins_anew() -> None:
    feed = TestFeed(Prices())
    missed, sent = results(feed, {"type": "complete", "id": "bid"})[1::-1]
    assert missed[:3:2] == ("missed", "the server completed bid")
    assert json.loads(sent[2])["payload"] == {"query": SUBSCRIPTIONS["bid"]}
    results(feed, bid(id="b1"))
    assert "missed" in [what for what, _, _ in results(feed, {"type": "complete", "id": "bid"})]


def test_a_subscription_that_ends_at_once_and_one_that_is_refused_end_in_a_stop() -> None:
    feed = TestFeed(Prices())
    twice = [{"type": "complete", "id": "ask"}] * 2
    assert ("stop", None, "the server completes ask at once") in results(feed, *twice)
    refused = results(feed, {"type": "error", "id": "bid", "payload": [{"message": "unknown field"}]})
    assert refused[0][0] == "stop"
    assert "unknown field" in refused[0][2]
