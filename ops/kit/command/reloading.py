"""Runs a command in a child process, and again whenever a Python file below the working directory changes.

For development alone. The child is stopped in order each time: a listener gives back what it has not begun. If it ends
with an error, such as a mistake in the user's code, the next change starts it again. A child that does not end in time
is killed, as it is at a second signal.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from unlost.ops.kit.command.kit import collect_from_now_on
from unlost.ops.kit.command.parent import dies_with_parent
from unlost.ops.kit.command.say import say

LOOK_EVERY = 0.3
MOST_FILES = 20_000
OTHER_SECONDS = 25.0
"""How long a child may take to stop, in addition to finishing its work."""
NOT_OURS = frozenset(("__pycache__", "node_modules", "site-packages"))

Seen = Mapping[Path, tuple[int, int]]
"""The time and the size of each file."""


def run_reloading(directory: Path, work_seconds: float) -> int:
    """Run this process's own command with ``--no-reload``, until a signal stops it; return its last exit code.

    ``work_seconds``: how long the command may finish its work.
    """
    collect_from_now_on()
    command = [sys.executable, *sys.argv, "--no-reload"]
    return Reloading(command, directory, patience=work_seconds + OTHER_SECONDS).run()


class Reloading:
    """One child at a time."""

    def __init__(self, command: list[str], directory: Path, *, patience: float, most_files: int = MOST_FILES) -> None:
        """``patience``: seconds that a child may take to stop."""
        self._patience = patience
        self._give_up_at: float | None = None
        """When a child that was asked to stop is killed."""
        self._command = command
        self._directory = directory
        self._most_files = most_files
        self._said = False
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False

    def run(self) -> int:
        """Run until a signal comes, or the child ends with code 0 by itself."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        seen = self._look()
        while True:
            code = self._run_until_changed(seen)
            if self._stopping or code == 0:
                return code or 0
            if code is not None:
                say(f"reload: ended with code {code}; the next change of a file starts it again", err=True)
                while not self._stopping and self._look() == seen:
                    time.sleep(LOOK_EVERY)
                if self._stopping:
                    return code
            now = self._look()
            say(f"reload: {_changed(seen, now, self._directory)} changed", err=True)
            seen = now

    def _run_until_changed(self, seen: Seen) -> int | None:
        """The exit code of a child that ended; None if it was stopped because something changed."""
        environment = {name: value for name, value in os.environ.items() if name.upper() != "RELOAD"}
        # A session of its own: Ctrl-C reaches this process alone, which stops the child once.
        self._child = child = subprocess.Popen(
            self._command, env=environment, start_new_session=True, preexec_fn=dies_with_parent(signal.SIGTERM)
        )
        self._give_up_at = None
        if self._stopping:
            self._ask(child)
        while True:
            try:
                code = child.wait(LOOK_EVERY)
            except subprocess.TimeoutExpired:
                if self._give_up_at is None and self._look() != seen:
                    self._ask(child)
                elif self._give_up_at is not None and time.monotonic() > self._give_up_at:
                    say(f"reload: killed, since it did not stop within {self._patience:g} s", err=True)
                    child.kill()
            else:
                return code if self._stopping or self._give_up_at is None else None

    def _ask(self, child: "subprocess.Popen[bytes]") -> None:
        """Ask a child once to stop in order."""
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + self._patience
            child.terminate()

    def _look(self) -> Seen:
        seen = files_below(self._directory, self._most_files)
        if len(seen) >= self._most_files and not self._said:
            self._said = True
            say(
                f"reload: only {self._most_files:,} Python files below {self._directory} are looked at; a change of "
                "another is not noticed: start it in the directory of your own code",
                err=True,
            )
        return seen

    def _stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the shape that Python calls
        if self._child is not None:
            self._child.kill() if self._stopping else self._ask(self._child)
        self._stopping = True


def files_below(directory: Path, most: int = MOST_FILES) -> Seen:
    """The Python files that may be the user's: none in hidden directories or virtual environments."""
    return dict(_files(directory, most))


def _files(directory: Path, left: int) -> Iterator[tuple[Path, tuple[int, int]]]:
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(
            one
            for one in directories
            if not one.startswith(".") and one not in NOT_OURS and not Path(root, one, "pyvenv.cfg").exists()
        )
        for name in sorted(names):
            if name.endswith(".py") and left:
                left -= 1
                try:
                    found = Path(root, name).stat()
                except OSError:  # it is just being replaced
                    continue
                yield Path(root, name), (found.st_mtime_ns, found.st_size)


def _changed(before: Seen, now: Seen, directory: Path) -> str:
    """Name the first file that differs."""
    different = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    more = f" and {len(different) - 1:,} more" if len(different) > 1 else ""
    return f"{different[0].relative_to(directory)}{more}" if different else "a file"
