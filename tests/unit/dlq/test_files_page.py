"""The reference of files is correct: each field exists, and its example lines can be read."""

import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from unlost.dlq.record import sidecar
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import decode
from unlost.dlq.record.letter_state import Record
from unlost.producer.journal.sqlite.adapter import SqliteJournal

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "files.md").read_text()
LETTERS, STATES, JOURNAL = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]


def shown(section: str) -> set[str]:
    """The first column of a section's table."""
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def example(section: str) -> bytes:
    (line,) = re.findall(r"^```json\n(.*)\n```$", section, re.MULTILINE)
    return str(line).encode()


def as_written(fields: Iterable[str]) -> set[str]:
    return {*fields, "v", "checksum"}


def test_every_field_of_a_letter_is_documented_and_its_example_is_one():
    assert shown(LETTERS) == as_written(Letter.__struct_fields__) - {"raw"} | {"raw_text", "raw_base64"}
    assert decode(example(LETTERS)).event_id == "order-1"


def test_every_field_of_a_state_is_documented_and_its_example_is_one():
    assert shown(STATES) == as_written(Record.__struct_fields__)
    record = sidecar.decode(example(STATES))
    assert record is not None
    assert (record.what, record.letter_id) == ("archived", decode(example(LETTERS)).letter_id)


def test_every_column_of_the_journal_is_documented(tmp_path: Path):
    path = tmp_path / "journal.sqlite3"
    SqliteJournal(path).close()
    with sqlite3.connect(path) as connection:
        columns = {row[1] for row in connection.execute("pragma table_info(entries)")}
    connection.close()
    assert shown(JOURNAL) == columns
