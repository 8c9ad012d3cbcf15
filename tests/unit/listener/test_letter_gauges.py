"""The counts of a dead-letter file keep up with listeners, replays and ``compact``."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from unlost.dlq.record.file import DeadLetterFile
from unlost.dlq.record.letter import Letter, letter_for_frame
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.sidecar import Sidecar
from unlost.listener.observe.letters import LargestGroups, LetterGauges, LettersTally


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
    assert sorted(tally.groups().values()) == [1, 2]
    sidecar = Sidecar(path)
    sidecar.append([Record("letter-1", "resolved", 2_000.0), Record("letter-3", "archived", 2_000.0)])
    sidecar.close()
    tally.look()
    assert list(tally.groups().values()) == [1]


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


def test_the_gauges_have_every_reason_from_the_start(path: Path, file: DeadLetterFile) -> None:
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


def shown(registry: CollectorRegistry) -> dict[str, float]:
    """The single failures in a scrape."""
    (family,) = (one for one in registry.collect() if one.name == "unlost_dead_letters_unresolved_by_fingerprint")
    return {sample.labels["fingerprint"]: sample.value for sample in family.samples}


def test_the_ten_largest_failures_are_shown_and_no_others(path: Path, file: DeadLetterFile) -> None:
    registry = CollectorRegistry()
    gauges = LetterGauges(path, registry)
    assert shown(registry) == {}
    large = [letter(10 * group + n, f"large {word(group)}") for group in range(9) for n in range(group + 2)]
    small = sorted((letter(900 + n, f"small {word(n)}") for n in range(2)), key=lambda one: one.fingerprint)
    file.append(large + small[::-1])
    gauges.look()
    expected = Counter(one.fingerprint for one in [*large, small[0]])
    assert (len(expected), shown(registry)) == (10, expected)
    assert registry.get_sample_value("unlost_dead_letters_unresolved_groups") == 11


def test_a_failure_that_is_resolved_makes_room_for_the_next(path: Path, file: DeadLetterFile) -> None:
    registry = CollectorRegistry()
    gauges = LetterGauges(path, registry)
    letters = sorted((letter(n, f"failure {word(n)}") for n in range(11)), key=lambda one: one.fingerprint)
    file.append(letters)
    gauges.look()
    assert shown(registry) == {one.fingerprint: 1 for one in letters[:10]}
    sidecar = Sidecar(path)
    sidecar.append([Record(letters[0].letter_id, "resolved", 2_000.0)])
    gauges.look()
    assert shown(registry) == {one.fingerprint: 1 for one in letters[1:]}
    sidecar.append([Record(one.letter_id, "resolved", 2_001.0) for one in letters[1:]])
    sidecar.close()
    gauges.look()
    assert shown(registry) == {}


def test_a_scrape_in_the_middle_of_a_look_shows_one_look() -> None:
    groups = LargestGroups()
    looks = [{f"{name}{n}": n for n in range(10)} for name in "ab"]
    groups.show(looks[0])
    ended = threading.Event()

    def keep_looking() -> None:
        while not ended.is_set():
            for look in looks:
                groups.show(look)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    looking = threading.Thread(target=keep_looking, name="looks")
    looking.start()
    try:
        for _ in range(2_000):
            (family,) = groups.collect()
            assert {sample.labels["fingerprint"]: sample.value for sample in family.samples} in looks
    finally:
        ended.set()
        looking.join()
        sys.setswitchinterval(usual)


def word(number: int) -> str:
    """A word for each number, because a fingerprint ignores numbers."""
    return "abcdefghijk"[number]
