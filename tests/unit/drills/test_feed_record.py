"""The record of a drill's feed is compared with rows and letters: each way to break the promise is seen."""

from pathlib import Path

import pytest

from unlost.ops.faults.drills.feed_record import MOVE, PLAN, FeedAct, FeedRecord, acknowledged, acts_in, moving
from unlost.ops.faults.drills.measure import StoredEvent


def rows(*event_ids: str, at: float = 2.0) -> list[StoredEvent]:
    return [StoredEvent(event_id, 1.0, at, 1) for event_id in event_ids]


def sent(event_id: str, *connections: int) -> list[FeedAct]:
    return [FeedAct("sent", 1.0, connection, event_id) for connection in connections]


def planned(*, left_first: bool = False) -> list[FeedAct]:
    """Every end of the plan, one a second, and what the client did after it."""
    found = []
    for at, how in enumerate(PLAN, 10):
        found.append(FeedAct("ended", at, at, how))
        first, then = ("left", "joined") if how != MOVE or left_first else ("joined", "left")
        found += [FeedAct(first, at + 0.1, at, ""), FeedAct(then, at + 0.2, at, "")]
    return found


GOOD_MOVES = [*planned(), *sent("a", 1, 2), *sent("b", 2)]


def test_a_feed_whose_events_all_are_rows_is_well():
    assert list(moving(GOOD_MOVES, rows("a", "b"), [])) == []
    assert list(moving(GOOD_MOVES, rows("a"), ["b"])) == []


@pytest.mark.parametrize(
    ("acts", "stored", "letters", "problem"),
    [
        (GOOD_MOVES, ["a"], [], "1 event of the feed: neither row nor dead letter"),
        (GOOD_MOVES, ["a", "b", "{heartbeat}"], [], "1 row or letter is no event of the feed, such as '{heart"),
        (GOOD_MOVES, ["a", "b"], ["?"], "1 row or letter is no event of the feed, such as '?'"),
        (GOOD_MOVES[3:], ["a", "b"], [], "the feed did not end connections as planned: move did not happen"),
        ([*planned(), *sent("a", 1, 2)], ["a"], [], "no event was sent to one listener alone"),
        ([*planned(left_first=True), *sent("a", 1)], ["a"], [], "4 connections were left before the new one was open"),
    ],
)
def test_each_fault_of_a_feed_that_ends_connections_is_found(
    acts: list[FeedAct], stored: list[str], letters: list[str], problem: str
):
    (found,) = moving(acts, rows(*stored), letters)
    assert found.startswith(problem)


def given(event_id: str, at: float) -> FeedAct:
    return FeedAct("acknowledged", at, 1, event_id)


GOOD_ACKNOWLEDGEMENTS = [*sent("a", 1, 2), *sent("b", 2), given("a", 2.1), given("b", 2.1)]


def test_a_feed_that_was_acknowledged_after_each_row_is_well():
    assert list(acknowledged(GOOD_ACKNOWLEDGEMENTS, rows("a", "b"), [])) == []
    assert list(acknowledged(GOOD_ACKNOWLEDGEMENTS, rows("a"), ["b"])) == []


@pytest.mark.parametrize(
    ("acts", "stored", "problem"),
    [
        ([*sent("a", 1, 2), given("a", 1.9)], rows("a"), "1 event was acknowledged without a row or dead letter"),
        ([*sent("a", 1, 2), given("a", 1.9), given("a", 2.1)], rows("a"), "1 event was acknowledged without"),
        ([*sent("a", 1, 2)], rows("a"), "1 event was never acknowledged"),
        ([*sent("a", 1), given("a", 2.1)], rows("a"), "no event was sent again, so nothing was proved"),
        ([], [], "no event was sent again, so nothing was proved"),
    ],
)
def test_each_fault_of_a_feed_that_wants_acknowledgements_is_found(
    acts: list[FeedAct], stored: list[StoredEvent], problem: str
):
    (found,) = acknowledged(acts, stored, [])
    assert found.startswith(problem)


def test_an_event_that_was_acknowledged_and_is_nowhere():
    assert list(acknowledged([*sent("a", 1, 2), given("a", 2.0)], [], [])) == [
        "1 event of the feed: neither row nor dead letter",
        "1 event was acknowledged without a row or dead letter",
    ]


def test_a_record_is_read_while_it_is_written(tmp_path: Path):
    file = tmp_path / "record"
    assert acts_in(file) == []
    record = FeedRecord(file)
    record.add("joined", 1)
    record.add("sent", 1, "drill 7")
    with file.open("a") as half:
        half.write("sent 17")
    assert [(act.kind, act.connection, act.what) for act in acts_in(file)] == [
        ("joined", 1, ""),
        ("sent", 1, "drill 7"),
    ]
