"""The file of letters byte by byte: long lines, ranges, damage, and the text in the lock file."""

import errno
import os
from pathlib import Path

import pytest

from tests.support.letters import letter, write
from unlost.dlq.record.file import (
    SHOWN_OF_DAMAGE,
    DamagedLine,
    DeadLetterFile,
    DiskFull,
    FileError,
    Guard,
    LineFile,
    Located,
    file_errors,
    read_letters,
    read_lines,
    read_outlines,
    settled_size,
)
from unlost.dlq.record.letter_line import encode


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def test_a_lock_says_what_its_holder_said_and_nothing_of_who_held_it_before(tmp_path: Path):
    first, second = Guard(tmp_path / "lock"), Guard(tmp_path / "lock")
    assert first.holder() == "holder unknown", "the file does not exist"
    assert first.take("a replay, which began at noon")
    assert not second.take("another")
    assert second.holder() == "a replay, which began at noon"
    first.release()
    assert second.take()
    assert first.holder() == f"pid {os.getpid()} on {os.uname().nodename}"
    second.release()
    second.release()
    (tmp_path / "lock").write_bytes(b"")
    assert first.holder() == "holder unknown"
    (tmp_path / "lock").write_bytes(b"\xff")
    assert first.holder() == "holder unknown"


def test_a_lock_is_private(tmp_path: Path):
    guard = Guard(tmp_path / "lock")
    guard.take()
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    guard.release()


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_path_that_is_no_file_is_refused_and_its_lock_is_free_again(path: Path, kind: str):
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(FileError) as refused:
        DeadLetterFile(path)
    assert str(refused.value).startswith(f"cannot write {path}: ")
    assert "no ordinary file" in str(refused.value) or kind == "directory"
    path.rmdir() if kind == "directory" else path.unlink()
    DeadLetterFile(path).close()


@pytest.mark.parametrize(("length", "whole"), [(9, True), (10, True), (11, False), (3_000_000, False)])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_has_its_whole_length_and_no_more_bytes_than_allowed(path: Path, length: int, whole: bool, end: bytes):
    path.write_bytes(b"first\n\n" + b"x" * length + end + (b"last\n" if end else b""))
    first, long, *last = read_lines(path, max_line=10)
    assert first == (0, b"first", 5, True)
    offset, line, shown, ended = long
    assert (offset, shown, ended) == (7, length, end == b"\n")
    assert line == b"x" * (length if whole else 11)
    assert last == ([(7 + length + 1, b"last", 4, True)] if end else [])


def test_a_range_begins_at_its_first_line_and_ends_before_its_end(path: Path):
    path.write_bytes(b"one\ntwo\nthree\n")
    assert [line for _, line, *_ in read_lines(path, start=4)] == [b"two", b"three"]
    assert [line for _, line, *_ in read_lines(path, end=8)] == [b"one", b"two"]
    assert [line for _, line, *_ in read_lines(path, start=4, end=5)] == [b"two"]
    assert [line for _, line, *_ in read_lines(path, start=4, end=4)] == []


def test_each_damage_says_which_file_where_how_much_and_how_it_begins(path: Path):
    whole = encode(letter("a"))
    path.write_bytes(b"x" * 9_000 + b"\n" + whole + b"\n" + b'{"v":1')
    long, located, torn = read_letters(path, max_line=8_000)
    assert isinstance(long, DamagedLine)
    assert (long.file, long.offset, long.length) == (path, 0, 9_000)
    assert long.line == b"x" * SHOWN_OF_DAMAGE
    assert "its writer was cut off" not in long.reason
    assert located == Located(9_001, letter("a"), len(whole))
    assert isinstance(torn, DamagedLine)
    assert (torn.file, torn.offset, torn.length) == (path, 9_001 + len(whole) + 1, 6)
    assert torn.line == b'{"v":1'
    assert "its writer was cut off, or is writing now" in torn.reason


def test_a_line_that_is_too_long_says_by_how_much(path: Path):
    path.write_bytes(b"x" * 1_234 + b"\n")
    (damage,) = read_letters(path, max_line=1_000)
    assert isinstance(damage, DamagedLine)
    assert damage.reason == "the line has 1,234 bytes, and 1,000 are allowed"


def test_a_line_that_was_torn_is_ended_before_the_next(path: Path):
    path.write_bytes(b'{"v":1')
    LineFile(path).append([b"next"])
    assert path.read_bytes() == b'{"v":1\nnext\n'


def test_nothing_to_append_makes_no_file(path: Path):
    LineFile(path).append([])
    assert not path.exists()


def test_a_write_that_fails_and_cannot_be_cut_back_is_reported_as_the_failed_write(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    LineFile(path).append([b"one"])
    monkeypatch.setattr(os, "fsync", fails)
    monkeypatch.setattr(os, "ftruncate", fails)
    with pytest.raises(FileError, match=f"cannot write {path}: broken disk"):
        LineFile(path).append([b"two"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_of_its_own(path: Path, number: int):
    shown = f"cannot write {path}: there is no room .*; free some space"
    with pytest.raises(DiskFull, match=shown), file_errors(path, "write"):
        raise OSError(number, os.strerror(number))


def test_the_size_of_what_is_settled_is_that_of_the_file(path: Path):
    write(path, [letter("a"), letter("b")])
    assert settled_size(path) == path.stat().st_size
    assert len(list(read_letters(path, end=settled_size(path)))) == 2


def test_a_plan_has_no_letters_that_came_later(path: Path):
    write(path, [letter("a")])
    end = settled_size(path)
    write(path, [letter("b")])
    assert [one.event_id for one in read_outlines(path, end=end) if not isinstance(one, DamagedLine)] == ["a"]
    assert len(list(read_outlines(path))) == 2


def test_a_line_of_before_effects_had_letters_is_no_effects(path: Path):
    write(path, [letter("a")])
    assert b"effect" not in path.read_bytes()
    (one,) = read_letters(path)
    assert isinstance(one, Located)
    assert one.letter.effect is None
