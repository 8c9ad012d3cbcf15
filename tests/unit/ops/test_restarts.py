"""A process that ends is started again, up to a limit. If a start fails, the other processes go on."""

import sys
import threading
from pathlib import Path

from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.restarts import RESTARTS, StartStep, Watched, keep_running


def ended(directory: Path) -> Child:
    child = Child("part", [sys.executable, "-c", "raise SystemExit(3)"], log=directory / "log")
    child.start()
    while child.is_running:
        pass
    return child


class Stopping(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


def test_a_start_that_fails_is_said_and_tried_again(tmp_path: Path) -> None:
    child, stopping, steps = ended(tmp_path), Stopping(), list[StartStep]()
    tries = 0

    def start() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ChildFailed("part", "has no disk")
        stopping.set()
        return "another leads"

    assert keep_running([Watched(lambda: child, start)], steps.append, stopping)
    assert [(one.what, one.well) for one in steps] == [
        ("ended with code 3", False), ("did not start again", False), ("ended with code 3", False),
        ("another leads", True),
    ]  # fmt: skip
    assert "has no disk" in steps[1].detail


def test_a_process_that_never_starts_is_given_up(tmp_path: Path) -> None:
    child, steps = ended(tmp_path), list[StartStep]()

    def start() -> None:
        raise ChildFailed("part", "has no disk")

    assert not keep_running([Watched(lambda: child, start)], steps.append, Stopping())
    assert sum(one.what == "did not start again" for one in steps) == RESTARTS
    assert "giving up" in steps[-1].what
