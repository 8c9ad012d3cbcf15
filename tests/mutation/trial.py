"""One mutant against the tests that reach it, in a copy of the repository."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

NO_FAILURE, FAILURE = 0, 1
SLOWER = 4.0
MORE_SECONDS = 90.0


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    ENDLESS = "killed by time"
    BROKEN = "killed at import"
    SURVIVED = "survived"
    UNREACHED = "reached by no test"


def copied(root: Path, where: Path) -> Path:
    """All that git knows of, and the environment by a link."""
    shutil.rmtree(where, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True)
    for name in listed.stdout.split("\0"):
        if name and (root / name).exists():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, where / name)
    return where


def tried(copy: Path, file: str, mutated: str, tests: Sequence[str], seconds: float) -> Fate:
    """Put it in, run the tests, take it out."""
    if not tests:
        return Fate.UNREACHED
    path = copy / file
    original = path.read_bytes()
    path.write_text(mutated, encoding="utf-8")
    try:
        return _run(copy, tests, seconds * SLOWER + MORE_SECONDS)
    finally:
        path.write_bytes(original)
        # A bytecode file of the same second and size would be taken for the restored source's.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)


def _run(copy: Path, tests: Sequence[str], limit: float) -> Fate:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    environment = {
        **os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(copy / ".hypothesis"),
    }  # fmt: skip
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its own session; servers die with who started them
        process.wait()
        return Fate.ENDLESS
    return {NO_FAILURE: Fate.SURVIVED, FAILURE: Fate.KILLED}.get(code, Fate.BROKEN)


def stopwatch() -> float:
    """Seconds, from anywhere."""
    return time.monotonic()
