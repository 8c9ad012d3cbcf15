"""Parsing and comparing cursors."""

from decimal import Decimal

import pytest

from unlost.listener.core.cursor import goes_back, ordinal_of, parse_cursor, stem_of

A, B = "0123456789ab", "ba9876543210"


def order(cursor: str) -> Decimal:
    ordinal = ordinal_of(cursor)
    assert ordinal is not None
    return ordinal


def ours(ordinal: int, number: int, random: str = "0000000a", journal: str = A) -> str:
    return f"{journal}.t{ordinal}-{random}.{number}"


def test_one_of_ours_names_journal_timeline_and_number() -> None:
    place = parse_cursor(ours(3, 17))
    assert place is not None
    assert (place.journal, place.timeline, place.number) == (A, (3, "0000000a"), 17)
    assert stem_of(ours(3, 17)) == stem_of(ours(4, 1, "0000000b")) != stem_of(ours(3, 17, journal=B))
    assert order(ours(10**17, 998)) < order(ours(10**17, 999))
    assert order(ours(3, 999)) < order(ours(4, 1)) < order(ours(10, 1))


@pytest.mark.parametrize(
    "cursor",
    [
        f"{A}.5",
        "5",
        "x",
        "",
        f"{A}.t3-a.1",
        f"{A}.t-0000000a.1",
        ours(3, 1) + "\n",
        ours(3, 10**18),
        f"{A}.t٣-0000000a.1",
    ],
)
def test_any_other_is_opaque(cursor: str) -> None:
    assert parse_cursor(cursor) is None


@pytest.mark.parametrize(
    ("stored", "unknown", "start", "back"),
    [
        (ours(5, 250), ours(5, 250), ours(5, 200), True),
        (ours(5, 190), ours(5, 250), ours(5, 200), False),  # the events in between are not settled
        (ours(6, 210), ours(5, 250), ours(5, 200), False),  # a peer has advanced it
        (ours(7, 900), ours(7, 950), ours(5, 100), True),
        (ours(5, 90), ours(5, 80), ours(5, 100), False),  # retention: forward by itself
        (ours(5, 110), ours(5, 80), ours(5, 100), False),  # retention, and a peer has advanced it
        (ours(5, 90), ours(5, 90), ours(1, 0, journal=B), True),
        (ours(1, 7, journal=B), ours(5, 90), ours(1, 0, journal=B), False),
        ("j-7", "j-9", "j-1", False),
    ],
)
def test_a_cursor_goes_back_only_from_what_is_lost(stored: str, unknown: str, start: str, back: bool) -> None:
    assert goes_back(stored, unknown, start) is back
