"""The dead-letter file: created privately, full disks, replaced files, one writer."""

import os
import resource
import stat
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from tests.support.letters import letter, mark, write
from unlost.dlq.commands.compact import compact
from unlost.dlq.record.file import DamagedLine, DeadLetterFile, DiskFull, FileError, Located, read_letters
from unlost.dlq.record.letter_line import decode, encode
from unlost.dlq.record.line import checksum
from unlost.dlq.record.sidecar import sidecar_path, states


def ids(path: Path) -> list[str | None]:
    return [one.letter.event_id for one in read_letters(path) if isinstance(one, Located)]


def test_the_file_appears_with_the_first_letter_and_is_its_owners_alone(tmp_path: Path):
    path = tmp_path / "letters.jsonl"
    file = DeadLetterFile(path)
    assert not path.exists()
    file.append([letter("a")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.close()


def test_a_second_writer_is_refused_with_a_sentence(tmp_path: Path):
    first = DeadLetterFile(tmp_path / "letters.jsonl")
    with pytest.raises(FileError, match=f"another running instance.*pid {os.getpid()}.*DEAD_LETTER_FILE"):
        DeadLetterFile(tmp_path / "letters.jsonl")
    first.close()
    DeadLetterFile(tmp_path / "letters.jsonl").close()


def test_a_missing_directory_is_reported_at_the_start(tmp_path: Path):
    with pytest.raises(FileError, match="create its directory"):
        DeadLetterFile(tmp_path / "none" / "letters.jsonl")


def test_a_write_that_is_cut_short_leaves_nothing_behind(tmp_path: Path):
    path = tmp_path / "letters.jsonl"
    file = DeadLetterFile(path)
    file.append([letter("a")])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
    try:
        with pytest.raises(DiskFull, match="no room"):
            file.append([letter("b"), letter("c")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    file.append([letter("b")])
    file.close()
    assert ids(path) == ["a", "b"]


def test_a_full_disk_keeps_what_stood_there_and_goes_on_when_there_is_room(tmp_path: Path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        path = tmp_path / "letters.jsonl"
        file = DeadLetterFile(path)
        written = 0

        def fill() -> None:
            nonlocal written
            while True:
                file.append([letter(f"e{written}")])
                written += 1

        with pytest.raises(DiskFull):
            fill()
        assert ids(path) == [f"e{i}" for i in range(written)]
        assert path.read_bytes().endswith(b"\n")
        os.truncate(path, 0)
        file.append([letter("after")])
        assert ids(path) == ["after"]
        file.close()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_file_that_is_taken_away_is_opened_anew(tmp_path: Path):
    path = tmp_path / "letters.jsonl"
    file = DeadLetterFile(path)
    file.append([letter("a")])
    path.rename(tmp_path / "old.jsonl")
    file.append([letter("b")])
    file.close()
    assert (ids(tmp_path / "old.jsonl"), ids(path)) == (["a"], ["b"])


def test_a_damaged_line_is_reported_with_its_offset_and_its_neighbours_live(tmp_path: Path):
    path = write(tmp_path / "letters.jsonl", [letter("a"), letter("b"), letter("c")])
    lines = path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"n": 1', b'"n": 2')
    path.write_bytes(b"\n".join(lines))
    one, damage, other = read_letters(path)
    assert isinstance(damage, DamagedLine)
    assert (damage.offset, damage.length) == (len(lines[0]) + 1, len(lines[1]))
    assert "checksum differs" in damage.reason
    assert (one.letter.event_id, other.letter.event_id) == ("a", "c")


def test_a_line_without_end_is_never_held_in_memory(tmp_path: Path):
    path = tmp_path / "letters.jsonl"
    path.write_bytes(b"x" * 5_000_000 + b"\n" + encode(letter("a")) + b"\n")
    damage, one = read_letters(path, max_line=2000)
    assert (damage.length, len(damage.line)) == (5_000_000, 2001)
    assert one.letter.event_id == "a"


def test_a_newer_format_is_named(tmp_path: Path):
    path = tmp_path / "letters.jsonl"
    body = encode(letter("a")).replace(b'{"v":1,', b'{"v":2,').rpartition(b',"checksum"')[0]
    path.write_bytes(b'%b,"checksum":"%b"}\n' % (body, checksum(body)))
    (damage,) = read_letters(path)
    assert "format version 2" in damage.reason


def test_an_event_nested_as_deep_as_a_listener_reads_is_read_everywhere():
    nested = b'{"event_id":"a","payload":%b%b}' % (b"[" * 900, b"]" * 900)
    deep = msgspec.structs.replace(letter("a"), event=nested)

    def with_little_stack(left: int) -> None:
        if left:
            with_little_stack(left - 1)
        else:
            assert decode(encode(deep)) == deep

    with_little_stack(200)


def test_passwords_in_messages_are_masked():
    line = encode(letter("a", message="cannot reach redis://app:hunter2@cache:6379/0"))
    assert b"hunter2" not in line
    assert b"redis://***@cache:6379/0" in line


def test_compact_drops_what_is_over_and_keeps_the_rest_to_the_byte(tmp_path: Path):
    path = write(tmp_path / "letters.jsonl", [letter(name) for name in "abcd"])
    with path.open("ab") as file:
        file.write(b'{"torn')
    mark(path, "a", "resolved")
    mark(path, "b", "archived")
    mark(path, "c", "failed")
    lines = path.read_bytes().split(b"\n")
    sums = compact(path)
    assert (sums.kept, sums.dropped, sums.damaged_kept) == (3, 1, 1)
    assert path.read_bytes() == b"\n".join([*lines[1:], b""])
    assert {one[-1] for one in states(path)} == {"b", "c"}
    sums = compact(path, drop_archived=True, drop_damaged=True)
    assert (sums.kept, sums.dropped, sums.damaged_dropped) == (2, 1, 1)
    assert ids(path) == ["c", "d"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sidecar_path(path).read_bytes().count(b"\n") == 1


def test_listeners_append_while_the_file_is_compacted_and_nothing_is_lost(tmp_path: Path):
    path = write(tmp_path / "letters.jsonl", [letter(f"old{i}") for i in range(200)])
    for i in range(0, 200, 2):
        mark(path, f"old{i}", "resolved")
    file = DeadLetterFile(path)
    started = threading.Event()

    def keep_writing() -> None:
        for i in range(200):
            file.append([letter(f"new{i}")])
            started.set()

    writer = threading.Thread(target=keep_writing)
    writer.start()
    started.wait()
    rounds = 0
    while writer.is_alive() or not rounds:
        compact(path)
        rounds += 1
    writer.join()
    file.close()
    assert ids(path) == [f"old{i}" for i in range(1, 200, 2)] + [f"new{i}" for i in range(200)]
