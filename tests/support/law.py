"""Checks the law in a database and in dead-letter files: each event is one row or one letter, and none is both."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path

from tests.support.listeners import rows_of
from unlost.dlq.record.file import Located, read_letters
from unlost.dlq.record.letter import Letter


def letters_in(directory: Path) -> list[Letter]:
    lines = [one for file in sorted(directory.glob("*.jsonl")) for one in read_letters(file)]
    letters = [one.letter for one in lines if isinstance(one, Located)]
    assert len(letters) == len(lines), "a line is no letter"
    return letters


async def assert_law(database_url: str, directory: Path, event_ids: Collection[str]) -> None:
    rows = [row["event_id"] for row in await rows_of(database_url)]
    letters = [letter.event_id for letter in letters_in(directory)]
    assert Counter(rows + letters) == Counter(set(event_ids))
