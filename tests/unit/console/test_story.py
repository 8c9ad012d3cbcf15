"""The story of an event: reports in order of time with their origin, and the outcome in one sentence."""

from datetime import UTC, datetime

import pytest

from unlost.ops.console.story import sentence, steps

JOURNAL = {"cursor": "j.7", "at": 100.0, "digest": ""}
ROW = {
    "instance_id": "b",
    "seq": 3,
    "epoch": 1,
    "attempts": 1,
    "received_at": datetime.fromtimestamp(100.5, UTC),
    "processed_at": datetime.fromtimestamp(100.75, UTC),
}


def listener(name: str, *recent: dict, in_flight: dict | None = None) -> dict:
    return {"instance": name, "recent": recent, "in_flight": in_flight}


def letter(status: str = "open", at: str | None = None) -> dict:
    return {
        "instance": "a",
        "reason": "exhausted",
        "error_type": "ValueError",
        "message": "no stock",
        "last_at": "1970-01-01T00:01:42Z",
        "state": {"status": status, "at": at, "detail": "why not"},
        "attempts": [{"at": "1970-01-01T00:01:41Z", "stage": "handle", "error_type": "E", "message": "no stock"}],
    }


def test_steps_of_everybody_stand_in_the_order_of_time():
    shown = steps(
        JOURNAL,
        ROW,
        [listener("b", {"at": 100.6, "what": "claimed", "detail": ""})],
        [letter("resolved", "1970-01-01T00:01:50Z")],
    )
    assert [(one.who, one.what) for one in shown] == [
        ("producer", "accepted"),
        ("b", "claimed"),
        ("PostgreSQL", "row"),
        ("a", "attempt failed"),
        ("a", "dead letter"),
        ("replay", "resolved"),
    ]


def test_the_story_repeats_no_step_that_a_letter_has():
    failed = [{"at": at, "what": "failed", "detail": "no stock"} for at in (95.0, 101.01)]
    buried = {"at": 102.02, "what": "buried", "detail": "exhausted"}
    shown = steps(None, None, [listener("a", *failed, buried), listener("b", buried)], [letter()])
    assert [(one.who, one.what) for one in shown] == [
        ("a", "failed"),
        ("a", "attempt failed"),
        ("a", "dead letter"),
        ("b", "buried"),
    ]


@pytest.mark.parametrize(
    ("row", "listeners", "letters", "begins"),
    [
        (ROW, [], [], "Stored by b at the first attempt, 250 ms"),
        (
            ROW | {"attempts": 2, "epoch": 3},
            [],
            [letter()],
            "Stored by b after 2 attempts, 250 ms after it came in, taken",
        ),
        (None, [], [letter()], "A dead letter of a (exhausted: ValueError: no stock). Fix the cause and replay it."),
        (None, [], [letter("archived")], "A dead letter of a (exhausted: ValueError: no stock). It was archived"),
        (
            None,
            [],
            [letter("quarantined")],
            "A dead letter of a (exhausted: ValueError: no stock). It is in quarantine",
        ),
        (
            None,
            [listener("a", in_flight={"state": "owner", "received_at": 1.0})],
            [],
            "On its way: in the memory of a (owner)",
        ),
        (None, [listener("a")], [], "Accepted and in the journal"),
    ],
)
def test_the_end_is_reported_in_one_sentence(row: dict | None, listeners: list, letters: list, begins: str):
    assert sentence("e", JOURNAL, row, listeners, letters).startswith(begins)


def test_the_story_says_that_nobody_knows_an_event():
    assert sentence("e", None, None, [], []).startswith("Nobody knows an event 'e'")
