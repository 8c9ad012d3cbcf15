"""Runs tests on a changed file, each time in a fork: ``python -m tests.mutation.runner`` in a copy of the repository.

The process has imported all libraries, and then dropped our own modules. So a fork imports only those again, with the
change. One PostgreSQL serves all forks; each test creates its own database there.
"""

import contextlib
import gc
import importlib
import importlib.metadata
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from hypothesis import HealthCheck, settings

from tests.mutation.trial import Answer, Fate, Order
from tests.support.clusters import remove_cluster
from tests.support.servers import running_postgres
from unlost.ops.cli import main as unlost
from unlost.ops.system.postgres import PostgresServer

OURS = ("unlost", "grafana", "tests")
POLL = 0.01
LONGEST_TEST = 30
PYTEST = [
    *("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", str(LONGEST_TEST)),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # libraries are imported already
    *("--hypothesis-profile", "mutation"),
]


def main() -> None:
    """Answer each order with one line, until there are no more orders."""
    # The same examples each time, and no failure because the machine is slow.
    slow = [HealthCheck.too_slow]
    settings.register_profile("mutation", derandomize=True, database=None, deadline=None, suppress_health_check=slow)
    with os.fdopen(os.dup(1), "wb") as answers, running_postgres() as server:
        remove_cluster()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        _import_libraries()
        for number, line in enumerate(sys.stdin.buffer):
            order = msgspec.json.decode(line, type=Order)
            with _changed(Path(order.file), order.text, number):
                answer = _answer(order, server)
            answers.write(msgspec.json.encode(answer) + b"\n")
            answers.flush()


def _import_libraries() -> None:
    commands = (unlost.get_command(click.Context(unlost), name) for name in unlost.list_commands(click.Context(unlost)))
    assert all(commands)  # each was imported
    for name in ("unlost.listener.app.daemon", "unlost.producer.app.daemon", "tests.conftest", "tests.simulation.run"):
        importlib.import_module(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for plugin in importlib.metadata.entry_points(group="pytest11"):
            plugin.load()
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def _changed(path: Path, text: str, number: int) -> Iterator[None]:
    original, stat = path.read_bytes(), path.stat()
    path.write_text(text, encoding="utf-8")
    # Python takes a bytecode file as current if its source has the same second and size, so each change gets a new
    # second.
    os.utime(path, (number, number))
    try:
        yield
    finally:
        path.write_bytes(original)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _answer(order: Order, server: PostgresServer) -> Answer:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_pytest(order.tests, server, writing)
    os.close(writing)
    code = _ended(child, order.seconds)
    with os.fdopen(reading, "rb") as shown:
        by = shown.read().decode()
    if code is None:
        return Answer(Fate.ENDLESS, by)
    return Answer({0: Fate.SURVIVED, 1: Fate.KILLED}.get(code, Fate.BROKEN), by)


def _ended(child: int, seconds: float) -> int | None:
    """Its exit code, or None if it took too long and was killed."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL)
    os.killpg(child, signal.SIGKILL)  # its servers die with it
    os.waitpid(child, 0)
    return None


def _be_pytest(tests: list[str], server: PostgresServer, writing: int) -> None:
    """Never returns."""
    code = 3
    try:
        os.setsid()
        os.dup2(os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        import tests.support.servers as servers

        servers.postgres_server = pytest.fixture(scope="session", name="postgres_server")(lambda: server)
        code = pytest.main([*PYTEST, *tests], plugins=[_FirstFailure(writing)])
    finally:
        os._exit(code)


class _FirstFailure:
    """Reports the test that failed first."""

    def __init__(self, writing: int) -> None:
        self._writing: int | None = writing

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._writing is not None:
            os.write(self._writing, report.nodeid.encode())
            self._writing = None  # its teardown may fail, too


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):  # the driver was stopped
        main()
