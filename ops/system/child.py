"""A child process that does not outlive its parent, and that tests can kill, freeze and thaw.

Each child leads its own session, so Ctrl-C in a terminal reaches only the parent, and the parent decides the order of
stopping. If the parent is killed, the kernel sends a signal to the child (Linux only). The kernel binds that signal to
the *thread* that started the child, so start children from the main thread.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from unlost.ops.kit.command.parent import dies_with_parent
from unlost.ops.kit.telemetry.files import private_descriptor, private_directory

POLL = 0.02
LOG_LIMIT = 20 * 1024 * 1024


class ChildFailed(Exception):
    """A child ended before it was ready, or did not become ready in time."""

    def __init__(self, name: str, reason: str, tail: str = "") -> None:
        super().__init__(f"{name} {reason}" + (f"; the end of its log:\n{tail}" if tail else ""))
        self.name = name
        self.tail = tail


class Child:
    """One process and its log."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._environment = dict(os.environ if environment is None else environment)
        self._user = user
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: list[psutil.Process] = []
        self.stopping = False

    @property
    def pid(self) -> int | None:
        """The process id, once started."""
        return None if self._process is None else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code; ``None`` while it runs or before it was started."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def environment(self) -> Mapping[str, str]:
        """Its environment variables, from its next start on."""
        return self._environment

    def configure(self, **settings: str) -> None:
        """Change its environment variables, from its next start on."""
        self._environment.update(settings)

    def replace_program(self, program: Path) -> None:
        """Run another program with the same arguments, from its next start on."""
        self._argv[0] = str(program)

    def start(self) -> None:
        """Start it; does nothing if it runs already."""
        if self.is_running:
            return
        private_directory(self.log.parent)
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(self.log.suffix + ".1"))
        with open(private_descriptor(self.log, os.O_WRONLY | os.O_APPEND), "ab") as out:  # noqa: PTH123  a descriptor
            self.stopping = False
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment,
                user=self._user,
                group=None if self._user is None else _group_of(self._user),
                extra_groups=None if self._user is None else [],
                start_new_session=True,
                preexec_fn=dies_with_parent(self._stop_signal),
            )

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Return as soon as ``ready()`` holds; raise ``ChildFailed`` when it ends or takes too long."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.is_running:
                raise ChildFailed(self.name, f"ended with code {self.exit_code} before it was ready", self.tail())
            if time.monotonic() > deadline:
                raise ChildFailed(self.name, f"was not ready after {timeout:g} s", self.tail())
            time.sleep(POLL)

    def ask_to_stop(self) -> None:
        """Send its stop signal and do not wait. It is sent once: a second one would kill a process that is exiting."""
        if self.is_running and self._process is not None and not self.stopping:
            self.thaw()  # a frozen process could not handle the signal
            self.stopping = True
            self._process.send_signal(self._stop_signal)

    def stop(self, timeout: float = 20.0) -> int | None:
        """Stop it in order, or by SIGKILL after ``timeout``; return its exit code."""
        self.ask_to_stop()
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.exit_code

    def ended(self, timeout: float) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        """Kill it and its own children with SIGKILL, and wait until they are gone."""
        if self._process is None:
            return
        family = self._family()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()
        psutil.wait_procs(family, timeout=5)
        self._stopped = []

    def freeze(self) -> None:
        """Suspend it and its own children: they stay alive and connected, but silent."""
        self._stopped = self._family()
        for member in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()

    def thaw(self) -> None:
        """Resume what was frozen."""
        for member in self._stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()
        self._stopped = []

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 16_384))
                return b"\n".join(log.read().splitlines()[-lines:]).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _family(self) -> list[psutil.Process]:
        if not self.is_running or self._process is None:
            return []
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid
