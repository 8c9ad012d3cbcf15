"""Events that differ for each connection: noticed when each listener stores all that it receives."""

import pytest

from unlost.listener.core.facts import EventsDiffer, EventsDuplicate, EventsStored, Fact, FramesUnread
from unlost.listener.observe.differing import Differing

HASH = "ab" * 32


def seen(counts: Differing, stored: int, known: int = 0, unread: int = 0, name: str = HASH) -> None:
    counts(EventsStored([name] * stored, [0.1] * stored))
    counts(EventsDuplicate([name] * known))
    counts(FramesUnread(unread))


def judged(looks: list[tuple[int, int, int, int]], name: str = HASH) -> list[Fact]:
    """The facts that come of looks: stored, known and unread here, and stored by the peers."""
    counts, facts = Differing(), list[Fact]()
    for stored, known, unread, of_peers in looks:
        seen(counts, stored, known, unread, name)
        counts.judge(of_peers, facts.append)
    return facts


def test_two_looks_in_a_row_are_reported_once():
    assert judged([(500, 2, 0, 480)] * 2) == [EventsDiffer(500, 2, 480)]
    assert len(judged([(500, 2, 0, 480)] * 3)) == 1


@pytest.mark.parametrize(
    "looks",
    [
        [(500, 2, 0, 480)],
        [(500, 2, 0, 480), (500, 300, 0, 480), (500, 2, 0, 480)],
        [(500, 0, 0, 0)] * 5,
        [(500, 0, 0, 100)] * 5,
        [(99, 0, 0, 99)] * 5,
        [(500, 0, 500, 500)] * 5,
        [(500, 20, 0, 500)] * 5,
    ],
    ids=["once", "not in a row", "no peers", "few of peers", "few events", "peers' frames unread", "known"],
)
def test_anything_else_is_not(looks: list[tuple[int, int, int, int]]):
    assert judged(looks) == []


def test_ids_that_are_no_hashes_do_not_count():
    assert judged([(500, 0, 0, 480)] * 3, "BTC:1") == []
