"""Letters are read in batches that are bounded in number and bytes, and counted from their outlines."""

from pathlib import Path

import pytest

from tests.support.letters import invalid, letter, mark, write
from unlost.dlq.record.file import DamagedLine
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import OPEN, LetterState, later_than
from unlost.dlq.record.outline import outline
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import (
    LetterEntry,
    entries_of_files,
    groups,
    next_batch,
    outlines,
    size_of_entry,
    statistics,
)


def test_a_batch_ends_at_its_number_or_its_bytes() -> None:
    entries = [LetterEntry(letter(name, text="x" * 1_000), OPEN) for name in "abcdef"]
    size = size_of_entry(entries[0])
    found = iter(entries)
    assert len(next_batch(found, 2)) == 2
    assert len(next_batch(found, 9, size=size + 1)) == 2
    assert len(next_batch(found, 9, size=1)) == 1, "at least one"
    assert len(next_batch(found, 9)) == 1
    assert next_batch(found, 9) == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    some = [
        letter("a", type="order", handler="shop:app@1"),
        letter("b", at=1_700_000_050.123456, message="no such order 4711"),
        letter("c", reason="rejected", message="\ud800", error_type="Reject"),
        invalid("d", b"\xffno json"),
        letter("e", payload={"deep": 7}),
    ]
    path = write(tmp_path / "letters.jsonl", some)
    mark(path, "c", "resolved", "stored")
    with path.open("ab") as file:
        file.write(b'{"v": 1, "letter_id": "x"}\n' + encode(letter("f")).replace(b'"v":1', b'"v":2') + b'\n{"torn')
    return path


SELECTIONS = [
    Selection(), Selection(types=frozenset({"order"})), Selection(since=1_700_000_050.0),
    Selection(begins="0123456789ab-d"), Selection(ids=("a",)), Selection(text="4711"),
    Selection(payload=('{"deep": 7}',)), Selection(reasons=frozenset({"invalid"})),
    Selection(statuses=frozenset({"resolved"})), Selection(fingerprint="f" * 12),
]  # fmt: skip


@pytest.mark.parametrize("selection", SELECTIONS)
def test_outlines_count_as_whole_letters_do(path: Path, selection: Selection) -> None:
    of_outlines, of_letters = list[DamagedLine](), list[DamagedLine]()
    quick = list(outlines([path], selection, of_outlines))
    slow = [(one.letter, one.state) for one in entries_of_files([path], selection, of_letters)]
    assert (groups(quick), statistics(quick)) == (groups(slow), statistics(slow))
    names = "letter_id", "event_id", "event", "handler", "group", "first_at", "last_at"
    assert [[getattr(one, name) for name in names] for one, _ in quick] == [
        [getattr(one, name) for name in names] for one, _ in slow
    ]
    assert (len(of_outlines), of_outlines) == (3, of_letters), "damaged lines are named alike"


def test_a_line_that_the_fast_reader_refuses_has_an_outline_too() -> None:
    one = letter("a")
    nested = b'{"event_id":"a","payload":' + b"[" * 900 + b"]" * 900 + b"}"
    line = encode(type(one)(**{name: getattr(one, name) for name in one.__struct_fields__} | {"event": nested}))
    found = outline(line)
    assert (found.letter_id, found.event, found.last_at) == (one.letter_id, nested, one.last_at)


@pytest.mark.parametrize(("last", "found"), [(None, 5.25), (5.0, 5.25), (5.25, 5.250001), (7.5, 7.500001)])
def test_a_change_comes_right_after_the_one_before_although_clocks_differ(last: float | None, found: float):
    assert later_than(LetterState(at=last), 5.25) == found
