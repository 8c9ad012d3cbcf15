"""Letters are read in batches that are bounded in number and bytes."""

from tests.support.letters import letter
from unlost.dlq.record.sidecar import OPEN
from unlost.dlq.store.entries import LetterEntry, next_batch, size_of_entry


def test_a_batch_ends_at_its_number_or_its_bytes() -> None:
    entries = [LetterEntry(letter(name, text="x" * 1_000), OPEN) for name in "abcdef"]
    size = size_of_entry(entries[0])
    found = iter(entries)
    assert len(next_batch(found, 2)) == 2
    assert len(next_batch(found, 9, size=size + 1)) == 2
    assert len(next_batch(found, 9, size=1)) == 1, "at least one"
    assert len(next_batch(found, 9)) == 1
    assert next_batch(found, 9) == []
