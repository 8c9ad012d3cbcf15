"""Durability of the files of letters: nothing counts as written before ``fsync`` of file and directory."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.letters import letter, mark, write
from unlost.dlq.commands.compact import compact
from unlost.dlq.record.file import DamagedLine, DeadLetterFile, FileError, LineFile, Located, read_letters
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import OPEN, Record
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states

Seen = list[tuple[str, int]]
"""The syncs, in order: the name of a file or directory, and its size then."""


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen: Seen = []
    real = os.fsync

    def recording(fd: int) -> None:
        real(fd)
        seen.append((Path(f"/proc/self/fd/{fd}").readlink().name, os.fstat(fd).st_size))

    monkeypatch.setattr(os, "fsync", recording)
    return seen


def names(seen: Seen) -> list[str]:
    return [name for name, _ in seen]


def test_an_append_ends_after_the_fsync_of_all_its_bytes_and_a_new_file_is_in_its_directory(
    tmp_path: Path, synced: Seen
):
    path = tmp_path / "letters.jsonl"
    file = DeadLetterFile(path)
    file.append([letter("a"), letter("b")])
    size = path.stat().st_size
    assert (names(synced), synced[-1]) == ([tmp_path.name, path.name], (path.name, size))
    file.append([letter("c")])
    assert synced[2:] == [(path.name, path.stat().st_size)], "one fsync per group, and no second one of the directory"
    file.close()


def test_states_are_as_durable_as_letters(tmp_path: Path, synced: Seen):
    path = tmp_path / "letters.jsonl"
    sidecar = Sidecar(path)
    sidecar.append([Record("one", "archived", 1.0), Record("other", "archived", 1.0)])
    assert names(synced) == [tmp_path.name, sidecar_path(path).name]
    assert synced[-1][1] == sidecar_path(path).stat().st_size
    sidecar.close()


@pytest.mark.parametrize("make", [
    lambda path: DeadLetterFile(path).append([letter("b")]),
    lambda path: Sidecar(path.with_name("x")).append([Record("b", "archived", 1.0)]),
], ids=["letters", "states"])  # fmt: skip
def test_an_fsync_that_fails_fails_the_append_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
):
    path = tmp_path / "x.state"
    path.touch()

    def refuses(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(FileError, match="Input/output error"):
        make(path)
    assert path.read_bytes() == b""


def test_a_compaction_is_durable_before_it_takes_the_place_and_its_place_after(
    tmp_path: Path, synced: Seen, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "letters.jsonl", [letter("a"), letter("b")])
    mark(path, "a", "resolved")
    synced.clear()
    replace = Path.replace

    def recording(source: Path, target: Path) -> Path:
        synced.append((f"{source.name} -> {target.name}", source.stat().st_size))
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", recording)
    compact(path)
    for done, name in ((synced[:4], path.name), (synced[4:], sidecar_path(path).name)):
        copy = f"{name}.compacting"
        assert names(done) == [copy, copy, f"{copy} -> {name}", tmp_path.name]
        assert done[1][1] == done[2][1] == (tmp_path / name).stat().st_size


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_a_torn_state_harms_no_neighbour_and_the_next_is_whole(tmp_path: Path, cut: int):
    path = write(tmp_path / "letters.jsonl", [letter(name) for name in "abc"])
    for name in "ab":
        mark(path, name, "archived", "test")
    sidecar = sidecar_path(path)
    sidecar.write_bytes(sidecar.read_bytes()[:-cut])
    mark(path, "c", "archived", "after")
    known = states(path)
    assert [known.get(f"0123456789ab-{name}", OPEN).status for name in "abc"] == [
        "archived", "archived" if cut == 1 else "open", "archived",
    ]  # fmt: skip


def test_each_line_ends_with_its_own_newline(tmp_path: Path):
    path = tmp_path / "lines"
    file = LineFile(path)
    file.append([b"one", b"two"])
    file.append([])
    file.append([b"three"])
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"


def test_a_torn_letter_is_closed_before_the_next_one(tmp_path: Path):
    path = write(tmp_path / "letters.jsonl", [letter("a")])
    torn = encode(letter("b"))[:-9]
    with path.open("ab") as file:
        file.write(torn)
    write(path, [letter("c")])
    first, damage, last = read_letters(path)
    assert isinstance(first, Located)
    assert isinstance(last, Located)
    assert isinstance(damage, DamagedLine)
    assert (first.letter.event_id, damage.length, last.letter.event_id) == ("a", len(torn), "c")
