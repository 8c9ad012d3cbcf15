"""Answers are returned as added, whether they are kept plain or compressed."""

import asyncio
import tracemalloc

import pytest

from unlost.producer.publish.answers import Answers


async def in_pieces(answers: Answers) -> list[bytes]:
    return [piece async for piece in answers.pieces()]


@pytest.mark.parametrize(("plain_bytes", "is_plain"), [(0, False), (9, False), (14, False), (15, True)])
def test_answers_are_read_as_they_were_added(plain_bytes: int, is_plain: bool) -> None:
    answers = Answers(plain_bytes=plain_bytes)
    for lines in (b"first", b"", b"second", b"last"):
        answers.add(lines)
    assert (answers.is_plain, answers.size) == (is_plain, 15)
    assert answers.whole() == b"firstsecondlast"
    assert b"".join(asyncio.run(in_pieces(answers))) == b"firstsecondlast"


def test_many_answers_take_little_room() -> None:
    answers = Answers(plain_bytes=1_000)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1_000):
            answers.add(b'{"line":1,"status":"invalid"}\n' * 100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < answers.size / 20


def test_nothing_is_no_answer() -> None:
    assert (Answers().size, Answers().whole()) == (0, b"")
