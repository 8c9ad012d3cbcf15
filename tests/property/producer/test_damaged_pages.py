"""One flipped bit anywhere in the journal's file hides no event: each is read whole, or its number is known as lost."""

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from unlost.listener.core.event import parse
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.stream.messages import one_by_one

COUNT = 600
FLIPS = 150


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "journal.sqlite3"
    journal = SqliteJournal(path)
    for first in range(0, COUNT, 50):
        bodies = [
            json.dumps({"event_id": f"e{number}", "payload": "x" * (9_000 if number % 97 == 0 else 40)}).encode()
            for number in range(first, first + 50)
        ]
        events = [parse(body, max_bytes=len(body)) for body in bodies]
        some = [Publication(one.event_id, one.digest, body) for one, body in zip(events, bodies, strict=True)]
        journal.append([some], 1.0)
    journal.close()
    return path


def read(path: Path) -> tuple[set[str], set[int]]:
    """The ids of all whole entries, and the numbers of those that are known to be damaged or gone."""
    journal = SqliteJournal(path)
    try:
        after, newest = journal.bounds()
        whole: set[str] = set()
        lost = set(range(1, after + 1))
        while entries := journal.read(after, 50):
            damaged = damaged_of(entries)
            numbers = {one.number for one in damaged}
            whole |= {one.event_id for one in entries if one.number not in numbers}
            lost |= numbers
            assert [one.number for one in entries] == list(range(after + 1, after + 1 + len(entries)))
            carry = one_by_one(journal.timelines)
            assert all(carry(one.number, [one.body]) for one in entries if one.number not in numbers)
            after = entries[-1].number
        lost |= set(range(newest + 1, COUNT + 1))
        journal.retire(older_than=2.0, max_bytes=10**9)
        return whole, lost
    finally:
        journal.close()


def test_an_intact_journal_is_read_whole(intact: Path, tmp_path: Path) -> None:
    assert read(Path(shutil.copy(intact, tmp_path))) == ({f"e{number}" for number in range(COUNT)}, set())


@pytest.mark.parametrize("seed", range(3))
def test_no_flipped_bit_hides_an_event(intact: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file = intact.read_bytes()
    refused = hurt = 0
    for flip in range(FLIPS):
        path = tmp_path / f"{flip}.sqlite3"
        place = rng.randrange(len(file))
        if flip % 2:  # half of them hit the beginning of a page, where its structure is
            place = place // 4096 * 4096 + rng.randrange(100)
        broken = bytearray(file)
        broken[place] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        try:
            whole, lost = read(path)
        except JournalError:
            refused += 1
            continue
        finally:
            path.unlink()
        hurt += bool(lost)
        missing = {f"e{number}" for number in range(COUNT)} - whole
        assert missing <= {f"e{number - 1}" for number in lost}, (place, sorted(missing))
    assert hurt, "no bit hurt an entry"
    assert refused < FLIPS / 3, f"{refused} times the journal as a whole was refused"


def test_an_entry_in_the_place_of_another_is_damage(intact: Path, tmp_path: Path) -> None:
    """One bit of a row's number puts it there. The entry that was there cannot be found any more."""
    path = tmp_path / "journal.sqlite3"
    shutil.copy(intact, path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("delete from entries where number = 8")
        file.execute("update entries set number = 8 where number = 7")
    whole, lost = read(path)
    assert (lost, len(whole)) == ({7, 8}, COUNT - 2)


@pytest.mark.parametrize(
    ("column", "value"),
    [("body", "cast(body as text)"), ("body", "12"), ("body", "1.5"), ("digest", "cast(digest as text)"),
     ("event_id", "cast(event_id as blob)"), ("at", "'soon'"), ("at", "x'00'")],
)  # fmt: skip
def test_a_column_of_another_type_is_damage(intact: Path, tmp_path: Path, column: str, value: str) -> None:
    """One bit of a row's header decides the type of a column."""
    path = tmp_path / "journal.sqlite3"
    shutil.copy(intact, path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"update entries set {column} = {value} where number = 7")
    whole, lost = read(path)
    assert lost == {7}
    assert len(whole) == COUNT - 1
