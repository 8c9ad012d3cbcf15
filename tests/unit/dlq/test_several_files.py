"""Every command takes several files, directories and patterns, and treats them as one list of letters."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.letters import letter, mark, write
from unlost.dlq.commands.cli import main
from unlost.dlq.record.file import FileError, lock_of_writer, replay_guard
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.paths import letter_files
from unlost.dlq.record.sidecar import Sidecars, encode, states


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, some in {"a": [letter("a1", at=10.0), letter("a2", at=30.0)], "b": [letter("b1", at=20.0)]}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name / "failed_events.jsonl", some)
    return tmp_path


def events(*words: object) -> list[str]:
    return [one["event_id"] for one in json.loads(run(*words, "--json").stdout)]


def test_files_directories_and_patterns_name_the_same_letters_each_once(data: Path):
    files = [data / name / "failed_events.jsonl" for name in "ab"]
    (data / "link.jsonl").symlink_to(files[0])
    for named in (
        [*files],
        [data],
        [data / "*" / "failed_events.jsonl"],
        [data / "?" / "*.jsonl"],
        [data, *files, *files],
    ):
        assert sorted(letter_files(named)) == files, named
    assert letter_files([data / "a"]) == files[:1]


@pytest.mark.parametrize("name", ["*.none", "none/*.jsonl", "empty"])
def test_a_pattern_or_directory_that_leads_nowhere_is_refused_but_not_where_a_listener_runs(data: Path, name: str):
    (data / "empty" / "deep" / "deeper").mkdir(parents=True)
    (data / "empty" / "deep" / "deeper" / "failed_events.jsonl").touch()
    with pytest.raises(FileError, match="names no dead-letter file"):
        letter_files([data / name])
    (data / "empty" / "failed_events.jsonl.writer").touch()
    assert letter_files([data / "empty"]) == []
    assert letter_files([data / "empty" / "*.jsonl"]) == []


def test_relative_patterns_are_looked_for_here(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(data)
    assert letter_files([Path("*/failed_events.jsonl")]) == [data / name / "failed_events.jsonl" for name in "ab"]


def test_a_name_that_leads_nowhere_is_refused_but_a_listener_without_letters_is_none(data: Path):
    missing = data / "a" / "faild_events.jsonl"
    assert "no listener has used it" in run("groups", missing, code=2).stderr
    lock_of_writer(missing).touch()
    assert letter_files([missing]) == []
    assert run("groups", missing).stdout == "no letters\n"


def test_a_directory_that_cannot_be_read_is_an_error(data: Path, monkeypatch: pytest.MonkeyPatch):
    look = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path == data / "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(path)

    monkeypatch.setattr(Path, "iterdir", refused)  # tests may run as root, who can read everything
    for named in (data / "*" / "*.jsonl", data, data / "a"):
        with pytest.raises(FileError, match=r"cannot read .*: Permission denied"):
            letter_files([named])


def test_a_path_that_is_no_file_is_refused_with_a_sentence(data: Path):
    pipe = data / "pipe"
    os.mkfifo(pipe)
    assert "is no file" in run("list", pipe, code=2).stderr


def test_letters_are_listed_in_the_order_of_time_each_with_its_file(data: Path):
    assert events("list", data) == ["a1", "b1", "a2"]
    assert events("list", data, "--limit", 2) == ["b1", "a2"]
    (one,) = json.loads(run("show", "b1", data / "a", data / "b", "--json").stdout)
    assert one["file"] == str(data / "b" / "failed_events.jsonl")
    assert ["file", one["file"]] in [line.split() for line in run("show", "b1", data).stdout.splitlines()]


def test_sums_go_over_all_files(data: Path):
    (group,) = json.loads(run("groups", data, "--json").stdout)
    assert (group["letters"], group["first_at"]) == (3, "1970-01-01T00:00:10.000000Z")
    shown = json.loads(run("stats", data, "--json").stdout)
    assert (shown["letters"], shown["bytes"]) == (3, sum(one.stat().st_size for one in letter_files([data])))
    assert [json.loads(line)["event_id"] for line in run("export", data).stdout.splitlines()] == ["a1", "a2", "b1"]
    assert run("verify", data).stdout == "3 letters and 0 states are whole, 0 lines damaged\n"


def test_damage_is_reported_with_its_file(data: Path):
    with (data / "b" / "failed_events.jsonl").open("ab") as file:
        file.write(b'{"torn')
    (damage,) = json.loads(run("verify", data, "--json", code=1).stdout)["damaged"]
    assert damage["file"] == str(data / "b" / "failed_events.jsonl")
    assert f"of {data}/b/failed_events.jsonl" in run("list", data).stderr


def test_changes_are_written_beside_the_file_of_each_letter(data: Path):
    assert run("archive", data, "--all", "--why", "old").stdout == "archived 3 letters\n"
    assert [len(states(data / name / "failed_events.jsonl")) for name in "ab"] == [2, 1]
    assert run("restore", data, "--id", "b1").stdout == "restored 1 letter\n"
    mark(data / "a" / "failed_events.jsonl", "a1", "resolved")
    assert json.loads(run("compact", data, "--json").stdout)["dropped"] == 1
    assert events("list", data) == ["b1", "a2"]


def test_a_plan_and_its_limit_go_over_all_files(data: Path):
    assert json.loads(run("replay", data, "--dry-run", "--json").stdout)["plan"]["letters"] == 3
    assert json.loads(run("replay", data, "--dry-run", "--limit", 2, "--json").stdout)["plan"]["letters"] == 2


def test_a_lock_on_one_file_stops_all_and_leaves_no_other_locked(data: Path):
    first, second = (data / name / "failed_events.jsonl" for name in "ab")
    guard = replay_guard(second)
    assert guard.take("a colleague")
    assert f"{second} is being replayed or compacted by a colleague" in run("replay", data, code=3).stderr
    assert "a colleague" in run("compact", data, code=3).stderr
    free = replay_guard(first)
    assert free.take()
    free.release()
    guard.release()


def test_the_setting_names_them_all_and_an_argument_stands_above_it(data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LETTERS", f"{data}/a/failed_events.jsonl,{data}/b")
    monkeypatch.setenv("DEAD_LETTER_FILE", str(data / "none"))
    assert events("list") == ["a1", "b1", "a2"]
    assert events("list", data / "b") == ["b1"]


def test_outcomes_of_a_replay_go_beside_the_letters_they_are_of(data: Path):
    first, second = (data / name / "failed_events.jsonl" for name in "ab")
    sidecars = Sidecars()
    sidecars.expect("one", first)
    sidecars.expect("other", second)
    records = [Record("one", "failed", 1.0), Record("one", "quarantined", 1.0), Record("other", "resolved", 1.0)]
    sidecars.append_lines([one.letter_id for one in records], list(map(encode, records)))
    sidecars.close()
    assert {name: one.status for name, one in states(first).items()} == {"one": "quarantined"}
    assert {name: one.status for name, one in states(second).items()} == {"other": "resolved"}
