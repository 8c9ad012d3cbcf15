"""``unlost journal migrate``: what it prints, what it refuses, and what a producer says on a journal that has moved."""

import hashlib
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from unlost.ops.kit.command import UsageProblem
from unlost.ops.upkeep.journal import journal as journal_command
from unlost.producer.app.running import run_producer
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.journal.publications import Publication
from unlost.producer.journal.sqlite.adapter import SqliteJournal


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old" / "journal.sqlite3"
    with closing(SqliteJournal(path)) as journal:
        bodies = [f'{{"event_id":"{name}","payload":1}}'.encode() for name in "abc"]
        journal.append([[Publication(chr(one[13]), hashlib.sha256(one).digest(), one) for one in bodies]], 1.0)
    return path


def migrate(*arguments: str | Path) -> Result:
    return CliRunner().invoke(journal_command, ["migrate", *map(str, arguments)])


def test_it_says_each_step_and_where_the_producers_start(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new" / "journal.sqlite3"
    done = migrate(old, new)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"{new} is being made",
        "copied up to number 3 of 3",
        f"{old} is being marked as moved",
        f"{new} is being opened for producers",
        f"3 entries copied; start the producers with JOURNAL={new}",
    ]
    again = migrate(old, new)
    assert (again.exit_code, f"{old} has moved to {new} already" in again.output) == (0, True)


def test_a_producer_on_a_journal_that_has_moved_ends_with_a_sentence_that_names_the_new_one(
    old: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new" / "journal.sqlite3"
    assert migrate(old, new).exit_code == 0
    settings = ProducerSettings.load({"journal": str(old), "port": "0", "ws_port": "0"})
    with pytest.raises(UsageProblem) as refused:
        run_producer(settings)
    assert refused.value.problems == (f"the journal {old} has moved to {new}: start the producer there (JOURNAL)",)


def test_what_cannot_move_is_refused_in_a_sentence(old: Path, tmp_path: Path) -> None:
    for source, target, sentence in (
        (tmp_path / "none", tmp_path / "new", f"FROM: there is no journal {tmp_path / 'none'}"),
        (old, old, "FROM and TO are the same journal"),
        (old, "http://host/journal", "TO must be a file, or an address such as postgresql://"),
        ("nats://host", old, "FROM it names no stream"),
    ):
        refused = migrate(source, target)
        assert (refused.exit_code, sentence in refused.output) == (2, True), refused.output
    assert [one.name for one in tmp_path.iterdir()] == ["old"]


def test_no_password_is_printed(old: Path) -> None:
    refused = migrate(old, "postgresql://unlost:hidden@127.0.0.1:1/journal")
    assert refused.exit_code == 2
    assert "hidden" not in refused.output
    assert "cannot be read" in refused.output
