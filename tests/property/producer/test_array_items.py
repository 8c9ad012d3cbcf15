"""An array in pieces of any size has the items that a JSON reader finds in the whole."""

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unlost.listener.core.errors import InvalidEvent
from unlost.producer.publish.accept import NotAccepted
from unlost.producer.publish.array_items import ArrayItems

marks = st.text(alphabet='"\\[]{}, ab\u00e9\n', max_size=12)
values = st.recursive(
    st.none() | st.integers() | marks,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(marks, inner, max_size=4),
)


def items_of(pieces: list[bytes], max_bytes: int = 10_000) -> list[bytes]:
    items = ArrayItems(max_bytes=max_bytes)
    found = [item for piece in pieces for item in items.feed(piece)]
    items.end()
    return found


def cut(text: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[first:last] for first, last in pairwise(at)]


@given(st.lists(values, max_size=6), st.lists(st.integers(0, 1_000), max_size=12), st.sampled_from([None, 1]))
@example(["\\"], list(range(9)), None)
@example(['\\",['], list(range(12)), None)
def test_items_are_those_of_the_whole(items: list[object], places: list[int], indent: int | None) -> None:
    text = json.dumps(items, indent=indent).encode()
    assert [json.loads(item) for item in items_of(cut(text, places))] == items


@given(st.binary(max_size=40) | marks.map(str.encode), st.lists(st.integers(0, 40), max_size=5))
@example(b'["', [])
@example(b"[]]", [])
@example(b"}", [])
def test_any_bytes_are_items_or_refused(text: bytes, places: list[int]) -> None:
    for pieces in (cut(text, places), cut(b"[" + text, places)):
        with suppress(InvalidEvent):
            items_of(pieces)


def test_no_more_than_one_item_is_kept() -> None:
    with pytest.raises(NotAccepted, match="item 2 has more than 1,000 bytes"):
        items_of([b"[0,", *[b"[" * 100] * 100], max_bytes=1_000)
