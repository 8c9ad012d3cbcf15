"""A replay as a process: its exit codes, its thresholds, and every way to interrupt it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.support.letters import invalid, letter, write
from unlost.dlq.record.sidecar import sidecar_path, states


class Work:
    """A directory with letters, and replays run on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "letters.jsonl"

    def put(self, *payloads: dict, names: list[str] | None = None) -> None:
        names = names or [f"e{i}" for i in range(len(payloads))]
        write(self.path, [letter(name, payload=payload) for name, payload in zip(names, payloads, strict=True)])

    def start(self, *flags: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.end_to_end.dlq.effects", "replay", self.path, *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "EFFECTS": str(self.directory)},
        )  # fmt: skip

    def run(self, *flags: str) -> tuple[int, str, str]:
        process = self.start(*flags)
        out, err = process.communicate(timeout=50)
        return process.returncode, out, err

    def report(self, *flags: str) -> dict:
        code, out, _ = self.run("--json", *flags)
        shown = json.loads(out)
        assert shown["exit_code"] == code
        return shown

    def statuses(self) -> Counter:
        return Counter(one.status for one in states(self.path).values())

    def runs(self) -> list[str]:
        file = self.directory / "runs"
        return file.read_text().split() if file.exists() else []

    def rows(self) -> int:
        return len(list(self.directory.glob("row-*")))


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def test_all_letters_are_stored_and_a_second_replay_has_nothing_to_do(work: Work):
    work.put(*({} for _ in range(50)))
    before = work.path.read_bytes()
    shown = work.report()
    assert (shown["exit_code"], shown["report"]["stored"]) == (0, 50)
    assert (work.rows(), work.statuses()) == (50, {"resolved": 50})
    code, out, _ = work.run()
    assert code == 0
    assert "passed over  resolved 50" in out
    assert len(work.runs()) == 50
    assert work.path.read_bytes() == before


def test_a_dry_run_shows_the_plan_and_touches_nothing(work: Work):
    work.put({}, {})
    code, out, _ = work.run("--dry-run")
    assert (code, out) == (0, "to replay    2 (exhausted 2)\n")
    assert not sidecar_path(work.path).exists()
    assert not work.runs()


def test_a_letter_that_fails_again_is_quarantined_in_the_end(work: Work):
    work.put({}, {"fails": True})
    assert work.report()["report"] | {"failures": 0} == {
        "resolved": 1, "stored": 1, "already_stored": 0, "failed": 1, "quarantined": 0, "failures": 0,
        "elsewhere": 0, "behind": 0, "unreadable": 0, "stopped": "", "error": "", "interrupted": False,
    }  # fmt: skip
    assert work.run()[0] == 1
    code, out, _ = work.run()
    assert code == 1
    assert "1 now in quarantine" in out
    assert "no such order" in out
    state = states(work.path)["0123456789ab-e1"]
    assert (state.status, state.replays, state.error_type) == ("quarantined", 3, "ValueError")
    assert work.run()[0] == 0
    assert Counter(work.runs())["e1"] == 3


def test_an_event_that_is_stored_already_is_resolved(work: Work):
    work.put({})
    (work.directory / "row-e0").touch()
    assert work.report()["report"]["already_stored"] == 1
    assert states(work.path)["0123456789ab-e0"].detail == "already stored"


def test_two_letters_of_one_event_run_one_after_the_other(work: Work):
    write(work.path, [letter("e", payload={"takes": 0.05})])
    other = msgspec.structs.replace(letter("e", payload={"takes": 0.05}), letter_id="another")
    write(work.path, [other])
    shown = work.report()
    assert (shown["exit_code"], work.rows()) == (0, 1)


def test_raw_frames_are_tried_by_todays_rules(work: Work):
    write(work.path, [invalid("bad", b"\xff no json"), invalid("good", b'{"event_id":"late","payload":{}}')])
    shown = work.report()
    assert (shown["exit_code"], shown["report"]["stored"], shown["report"]["failed"]) == (1, 1, 1)
    assert "not UTF-8" in states(work.path)["0123456789ab-bad"].detail


def test_canaries_must_all_be_stored(work: Work):
    work.put({}, {"fails": True}, *({} for _ in range(20)))
    shown = work.report("--canary", "3")
    assert (shown["exit_code"], shown["report"]["resolved"], shown["report"]["failed"]) == (4, 2, 1)
    (work.directory / "repaired").touch()
    assert work.run("--canary", "3")[0] == 0
    assert work.rows() == 22


def test_failures_end_a_replay_at_their_limit(work: Work):
    work.put(*({"fails": True} for _ in range(40)))
    shown = work.report("--max-failures", "5", "--concurrency", "2")
    assert shown["exit_code"] == 4
    assert 5 <= shown["report"]["failed"] <= 6
    assert "the limit is 5" in shown["report"]["stopped"]


def test_limit_rate_and_filters_bound_a_replay(work: Work):
    work.put(*({} for _ in range(10)))
    started = time.monotonic()
    assert work.report("--limit", "4", "--rate", "20")["report"]["stored"] == 4
    assert time.monotonic() - started > 3 / 20
    assert work.report("--id", "e7")["report"]["stored"] == 1
    assert work.report("--reason", "conflict")["plan"]["letters"] == 0


def test_letters_that_come_meanwhile_wait_for_the_next_replay(work: Work):
    work.put({"hangs": True})
    process = work.start()
    until(lambda: work.runs() == ["e0"])
    write(work.path, [letter("new", payload={})])
    (work.directory / "go").touch()
    process.communicate(timeout=20)
    assert (process.returncode, work.runs()) == (0, ["e0"])
    assert work.report()["report"]["stored"] == 1


def test_a_second_replay_reports_who_holds_the_letters(work: Work):
    work.put({"hangs": True})
    process = work.start()
    until(lambda: work.runs() == ["e0"])
    code, _, err = work.run()
    assert code == 3
    assert f"pid {process.pid} on {os.uname().nodename} since 20" in err
    (work.directory / "go").touch()
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_an_interrupt_lets_what_is_under_way_finish(work: Work):
    work.put(*({"hangs": True} for _ in range(10)))
    process = work.start("--concurrency", "3")
    until(lambda: len(work.runs()) == 3)
    process.send_signal(signal.SIGINT)
    (work.directory / "go").touch()
    _, err = process.communicate(timeout=20)
    assert (process.returncode, work.rows(), work.statuses()) == (130, work.rows(), {"resolved": work.rows()})
    assert 3 <= work.rows() < 10
    assert "interrupted" in err
    assert work.run()[0] == 0
    assert (work.rows(), len(work.runs())) == (10, 10)


def test_a_second_interrupt_ends_at_once(work: Work):
    work.put({"hangs": True})
    process = work.start()
    until(lambda: work.runs() == ["e0"])
    process.send_signal(signal.SIGINT)
    assert "interrupt again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert (process.returncode, work.rows()) == (130, 0)


def test_a_database_that_goes_away_ends_the_replay_and_changes_no_letter(work: Work):
    work.put({"breaks": True})
    code, _, err = work.run()
    assert (code, states(work.path)) == (1, {})
    assert "error: PostgreSQL went away" in err
    (work.directory / "away").touch()
    code, _, err = work.run()
    assert code == 1
    assert "does not answer" in err


def test_misuse_ends_with_two(work: Work):
    code, _, err = work.run()
    assert code == 2
    assert "there is no dead-letter file" in err
    work.put({})
    assert work.run("--since", "yesterday")[0] == 2
    assert work.run("--redis-url", "http://x")[0] == 2


def test_killed_at_any_point_and_run_again_each_letter_is_stored_once(work: Work):
    count = 1500
    work.put(*({} for _ in range(count)))
    rng = random.Random(7)
    kills = 0
    while work.statuses()["resolved"] < count and kills < 12:
        goal = len(work.runs()) + rng.randint(1, count // 8)
        process = work.start("--concurrency", str(rng.choice([1, 4, 16])))
        until(lambda goal=goal, process=process: len(work.runs()) >= goal or process.poll() is not None)  # type: ignore[misc]
        process.kill()
        process.communicate()
        kills += 1
    assert kills > 3
    assert work.run()[0] == 0
    assert (work.rows(), work.statuses()) == (count, {"resolved": count})
    assert {f"e{i}" for i in range(count)} == set(work.runs())
    # An event can run again only if it was in progress at a kill, or had ended and was not recorded yet.
    assert len(work.runs()) - count <= kills * 2 * 16


def test_follow_prints_the_plan_first_then_progress_and_the_end_last(work: Work):
    work.put(*({} for _ in range(5)))
    code, out, _ = work.run("--follow", "--rate", "4")
    plan, *progress, end = [json.loads(line) for line in out.splitlines()]
    assert plan == {"plan": {"letters": 5, "by_reason": {"exhausted": 5}, "passed_over": {}, "damaged": 0}}
    done = [one["progress"]["resolved"] for one in progress]
    assert done
    assert done == sorted(done)
    assert (end["exit_code"], end["report"]["resolved"], end["plan"]) == (code, 5, plan["plan"])
    assert json.loads(work.run("--follow", "--dry-run")[1])["plan"]["passed_over"] == {"resolved": 5}


def test_letters_of_several_files_are_one_replay_with_one_limit_and_one_canary(work: Work):
    other = work.path.with_name("other.jsonl")
    work.put({}, {})
    write(other, [letter(name, payload={"fails": True}) for name in ("x", "y")])
    shown = work.report(str(other), "--canary", "3")
    assert (shown["plan"]["letters"], shown["report"]["stored"], shown["report"]["failed"], shown["exit_code"]) == (
        4,
        2,
        1,
        4,
    )
    assert {one.status for one in states(work.path).values()} == {"resolved"}
    assert [one.status for one in states(other).values()] == ["failed"]
    assert work.report(str(other.parent / "o*.jsonl"), "--limit", "1")["plan"]["letters"] == 1
