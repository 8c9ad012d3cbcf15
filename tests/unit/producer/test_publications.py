"""What is given to a journal in one piece: no larger than it can take."""

from producer.journal.publications import PIECE_BYTES, Lines, Publication, in_pieces, lines_of

LARGE = b"x" * (PIECE_BYTES // 4)


def large(number: int, *, redeliver: bool = False) -> Publication:
    return Publication(f"e{number}", bytes([number]) * 32, LARGE, redeliver)


def test_large_events_come_in_several_pieces_and_in_their_order() -> None:
    some = [large(number, redeliver=number > 10) for number in range(15)]
    pieces = list(in_pieces([some[:3], some[3:]]))
    assert max(piece.size for piece in pieces) <= PIECE_BYTES
    assert [len(piece) for piece in pieces] == [4, 4, 3, 4]
    assert [one for piece in pieces for one in piece] == some


def test_what_comes_as_lines_stays_in_one_piece() -> None:
    lines: Lines = lines_of([large(number) for number in range(5)])
    assert list(in_pieces([lines, [large(5)]])) == [lines, lines_of([large(5)])]
