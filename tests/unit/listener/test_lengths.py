"""Lengths that a Redis announces are checked, however the bytes are cut. Content is not taken for a length."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse

from unlost.listener.claims.redis.resp import LONGEST_LINE, MOST_BYTES, MOST_ELEMENTS, Lengths

HARMLESS = [
    b"+OK\r\n", b"+99999999999\r\n", b":99999999999\r\n", b"-ERR *99999999999\r\n", b"\r\n", b"$-1\r\n", b"*-1\r\n",
    b"$0\r\n\r\n", b"$13\r\n*99999999999\n\r\n", b"$4\r\n\r\n\r\n\r\n", b"*x\r\n", b"$x\r\n",
    b"*2\r\n$1\r\na\r\n:1\r\n", b"!5\r\n*9999\r\n", b"=5\r\n*9999\r\n", b"*%d\r\n" % MOST_ELEMENTS,
]  # fmt: skip
HARMFUL = [
    *(b"%c%d\r\n" % (kind, MOST_BYTES + 1) for kind in b"$=!"),
    *(b"%c%d\r\n" % (kind, MOST_ELEMENTS + 1) for kind in b"*%~>|"),
]  # fmt: skip


def fed(data: bytes, cuts: list[int]) -> None:
    lengths = Lengths()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        lengths.check(data[start:end])


CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@given(st.lists(st.sampled_from(HARMLESS), max_size=6), CUTS)
def test_harmless_replies_pass_in_any_pieces(replies: list[bytes], cuts: list[int]):
    fed(b"".join(replies), cuts)


@given(st.lists(st.sampled_from(HARMLESS), max_size=4), st.sampled_from(HARMFUL), CUTS)
def test_harmful_replies_are_refused_in_any_pieces(before: list[bytes], harmful: bytes, cuts: list[int]):
    with pytest.raises(InvalidResponse, match="an answer that announces"):
        fed(b"".join([*before, harmful]), cuts)


@pytest.mark.parametrize("kind", b"$=!")
def test_the_longest_bulk_may_be_announced(kind: int):
    Lengths().check(b"%c%d\r\n" % (kind, MOST_BYTES))


def test_a_line_without_end_is_refused_once_it_is_too_long():
    lengths = Lengths()
    lengths.check(b"+" * LONGEST_LINE)
    with pytest.raises(InvalidResponse, match=r"a line of more than 65,536 bytes"):
        lengths.check(b"+")


def test_answers_are_bounded_one_by_one():
    lengths = Lengths()
    for _ in range(3):
        lengths.check(b"$%d\r\n" % (MOST_BYTES // 2))
        lengths.check(b"x" * (MOST_BYTES // 2) + b"\r\n")
        lengths.answered()
    lengths.check(b"$%d\r\n" % (MOST_BYTES - 100))
    with pytest.raises(InvalidResponse, match="an answer of more than"):
        lengths.check(b"x" * MOST_BYTES)
