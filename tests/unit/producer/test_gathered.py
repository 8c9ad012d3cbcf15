"""Pieces of any size."""

import pytest

from unlost.producer.publish.piece_buffer import LEAST, PieceBuffer


@pytest.mark.parametrize("sizes", [(), (0,), (1,) * 100, (LEAST, 1, LEAST), (1, LEAST, 1), (LEAST - 1, 1, 5)])
def test_pieces_are_joined_into_the_whole(sizes: tuple[int, ...]) -> None:
    gathered = PieceBuffer()
    pieces = [bytes([65 + number % 26]) * size for number, size in enumerate(sizes)]
    for _ in range(2):
        for piece in pieces:
            gathered.add(piece)
        assert len(gathered) == sum(sizes)
        assert gathered.take() == b"".join(pieces)
        assert (len(gathered), gathered.take()) == (0, b"")
