"""Pieces for a journal: not larger than it can take, and with a matching index."""

from dataclasses import dataclass

import msgspec
import pytest

from unlost.producer.journal.publications import PIECE_BYTES, Lines, Publication, in_pieces, index_of, lines_of

LINES = [b'{"event_id":"e%d","payload":%b}' % (number, b"1" * number) for number in range(5)]
TEXT = b"\n".join(LINES)
INDEX = index_of([f"e{number}" for number in range(5)], [bytes([number]) * 32 for number in range(5)], LINES)
LARGE = b"x" * (PIECE_BYTES // 4)


def test_an_index_fits_its_own_text() -> None:
    assert INDEX.fits(TEXT, 5)
    assert index_of(["e0"], [bytes(32)], LINES[:1]).fits(LINES[0], 1)


@dataclass(frozen=True)
class Other:
    """The index of another text, or of none."""

    digests: bytes = INDEX.digests
    places: bytes = INDEX.places
    text: bytes = TEXT
    count: int = 5


@pytest.mark.parametrize(
    "other",
    [
        Other(text=TEXT[:-1]),
        Other(text=TEXT + b"\n"),
        Other(text=b"", count=0),
        Other(count=4),
        Other(count=6),
        Other(digests=INDEX.digests[:-1]),
        Other(digests=INDEX.digests + b"d"),
        Other(digests=b""),
        Other(places=b""),
        Other(places=INDEX.places[-10:]),
        Other(places=INDEX.places[10:]),
        Other(places=INDEX.places + INDEX.places[-10:]),
        Other(places=b"-" + INDEX.places[1:]),
        Other(places=b"\xff" * len(INDEX.places)),
    ],
)
def test_an_index_fits_no_other_text(other: Other) -> None:
    index = msgspec.structs.replace(INDEX, digests=other.digests, places=other.places)
    assert not index.fits(other.text, other.count)


def large(number: int, *, redeliver: bool = False) -> Publication:
    return Publication(f"e{number}", bytes([number]) * 32, LARGE, redeliver)


def test_large_events_come_in_several_pieces_and_in_their_order() -> None:
    some = [large(number, redeliver=number > 10) for number in range(15)]
    pieces = list(in_pieces([some[:3], some[3:]]))
    assert max(piece.size for piece in pieces) <= PIECE_BYTES
    assert [len(piece) for piece in pieces] == [4, 4, 3, 4]
    assert [one for piece in pieces for one in piece] == some


def test_lines_that_come_together_stay_in_one_piece() -> None:
    lines: Lines = lines_of([large(number) for number in range(5)])
    assert list(in_pieces([lines, [large(5)]])) == [lines, lines_of([large(5)])]
