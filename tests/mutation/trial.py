"""One mutant against the tests that reach it, in a copy of the repository."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

SLOWER = 4.0
MORE_SECONDS = 30.0
EXACT = ("tests/unit/", "tests/property/", "tests/simulation/")
"""A test that fails here fails again. Elsewhere a failure may be due to timing."""


class Fate(StrEnum):
    """The fate of a mutant."""

    KILLED = "killed"
    ENDLESS = "killed by time"
    BROKEN = "killed at import"
    SURVIVED = "survived"
    UNREACHED = "reached by no test"


class Order(msgspec.Struct, frozen=True):
    """An order to run these tests, with this text in the file, for at most this many seconds."""

    file: str
    text: str
    tests: list[str]
    seconds: float


class Answer(msgspec.Struct, frozen=True):
    """The fate, and the test that failed."""

    fate: Fate
    by: str


class Runner:
    """A copy of the repository, and the process in it that runs tests."""

    def __init__(self, root: Path, where: Path) -> None:
        self._copy = copied(root, where)
        environment = {
            **os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": str(where), "SIMULATION_SCHEDULES": "60",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(where / ".hypothesis"),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutation.runner"],
            cwd=where, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def tried(self, file: str, text: str, tests: Sequence[str], seconds: float) -> Answer:
        """The mutant's fate. A test that may fail by timing must kill it twice."""
        left = list(tests)
        while left:
            answer = self.run(file, text, left, seconds)
            if answer.fate is not Fate.KILLED or answer.by.startswith(EXACT):
                return answer
            by = function_of(answer.by)
            if self.run(file, text, [by], seconds).fate is not Fate.SURVIVED:
                return answer
            left.remove(by)
        return Answer(Fate.UNREACHED, "")

    def unchanged(self, file: str, tests: Sequence[str], seconds: float) -> Answer:
        """The same without a mutant."""
        return self.run(file, (self._copy / file).read_text(encoding="utf-8"), tests, seconds)

    def run(self, file: str, text: str, tests: Sequence[str], seconds: float) -> Answer:
        """Run the tests once."""
        order = Order(file, text, list(tests), seconds * SLOWER + MORE_SECONDS)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._process.stdout.readline(), type=Answer)

    def stop(self) -> None:
        """Stop the process, and its servers with it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def function_of(test: str) -> str:
    """The test without its parameters, which a mutant may change."""
    return test.partition("[")[0]


def copied(root: Path, where: Path) -> Path:
    """A copy of all files that git tracks or does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, check=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and (root / name).exists():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, where / name, follow_symlinks=False)
    return where


def stopwatch() -> float:
    """Seconds from an arbitrary start."""
    return time.monotonic()
