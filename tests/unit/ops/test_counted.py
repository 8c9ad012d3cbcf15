"""Counts in messages read as people write them."""

import pytest

from unlost.ops.kit.telemetry.counted import counted


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("letter",), "0 letters"),
        (1, ("letter",), "1 letter"),
        (2_000, ("letter",), "2,000 letters"),
        (1, ("entry", "entries"), "1 entry"),
        (2, ("entry", "entries"), "2 entries"),
        (1, ("event was", "events were"), "1 event was"),
    ],
)
def test_one_is_singular_and_all_else_plural(number: int, words: tuple[str, ...], said: str):
    assert counted(number, *words) == said
