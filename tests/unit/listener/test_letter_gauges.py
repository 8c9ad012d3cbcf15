"""The tally of a dead-letter file keeps up with listeners, replays and ``compact``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dlq.file import DeadLetterFile
from dlq.letter import Letter, encode, letter_for_frame
from dlq.sidecar import Record, Sidecar
from listener.observe.letters import LetterGauges, LettersTally


def letter(number: int, message: str = "no JSON") -> Letter:
    return letter_for_frame(
        b"no event", letter_id=f"letter-{number}", message=message, event_id=None, at=1_000.0 + number,
        instance="a", source=None,
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Iterator[DeadLetterFile]:
    one = DeadLetterFile(tmp_path / "letters.jsonl")
    yield one
    one.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def test_without_a_file_nothing_waits(path: Path) -> None:
    tally = LettersTally(path)
    tally.look()
    assert (dict(tally.statuses()), dict(tally.waiting()), tally.oldest()) == ({}, {}, None)


def test_letters_wait_until_a_replay_resolves_them(path: Path, file: DeadLetterFile) -> None:
    tally = LettersTally(path)
    file.append([letter(1), letter(2)])
    assert tally.look()
    assert not tally.look()
    assert (tally.waiting()["invalid"], tally.oldest()) == (2, 1_001.0)
    sidecar = Sidecar(path)
    sidecar.append([Record("letter-1", "resolved", 2_000.0)])
    sidecar.close()
    file.append([letter(3)])
    assert tally.look()
    assert (tally.waiting()["invalid"], tally.oldest()) == (2, 1_002.0)
    assert dict(tally.statuses()) == {"resolved": 1, "open": 2}


def test_those_that_failed_alike_are_one_failure_while_any_of_them_waits(path: Path, file: DeadLetterFile) -> None:
    tally = LettersTally(path)
    file.append([letter(1), letter(2), letter(3, "no object")])
    tally.look()
    assert tally.groups() == 2
    sidecar = Sidecar(path)
    sidecar.append([Record("letter-1", "resolved", 2_000.0), Record("letter-3", "archived", 2_000.0)])
    sidecar.close()
    tally.look()
    assert tally.groups() == 1


def test_a_line_is_read_once_it_has_its_end_and_damage_is_counted(path: Path) -> None:
    tally = LettersTally(path)
    line = encode(letter(1))
    path.write_bytes(b"broken\n" + line[:40])
    tally.look()
    assert (tally.damaged, tally.waiting().total()) == (1, 0)
    with path.open("ab") as half:
        half.write(line[40:] + b"\n")
    tally.look()
    assert (tally.damaged, tally.waiting().total()) == (1, 1)


def test_a_file_that_was_replaced_is_read_anew(path: Path, file: DeadLetterFile) -> None:
    tally = LettersTally(path)
    file.append([letter(1), letter(2), letter(3)])
    tally.look()
    smaller = path.with_suffix(".new")
    smaller.write_bytes(encode(letter(3)) + b"\n")
    smaller.replace(path)
    tally.look()
    assert (tally.waiting().total(), tally.oldest()) == (1, 1_003.0)


def test_what_is_shown_has_every_reason_from_the_start(path: Path, file: DeadLetterFile) -> None:
    registry = CollectorRegistry()
    gauges = LetterGauges(path, registry)
    assert registry.get_sample_value("unlost_dead_letters_unresolved", {"reason": "crash_loop"}) == 0
    assert registry.get_sample_value("unlost_dead_letters_oldest_unresolved_seconds") == 0
    file.append([letter(1)])
    gauges.look()
    assert registry.get_sample_value("unlost_dead_letters_unresolved", {"reason": "invalid"}) == 1
    assert registry.get_sample_value("unlost_dead_letters", {"status": "open"}) == 1
    assert registry.get_sample_value("unlost_dead_letters_unresolved_groups") == 1
    assert (registry.get_sample_value("unlost_dead_letters_oldest_unresolved_seconds") or 0) > 1e8
    assert (registry.get_sample_value("unlost_dead_letter_disk_free_bytes") or 0) > 0
