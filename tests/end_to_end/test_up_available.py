"""``unlost up --ha``: whichever process is killed, another takes its place, and every event ends as one row."""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from unlost.ops.system.layout import executable
from unlost.ops.system.ports import free_port, free_row

LISTENERS = 4
"""They take as many ports in a row."""
PORTS = ("producer", "ws", "postgres", "redis", "console")
KILLED = ("postgres", "valkey-server", "producer-1", "haproxy", "listener-b", "console")


def until(look: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


class Running:
    """A system in a terminal of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        listeners = free_row(LISTENERS)
        ports: dict[str, int] = {}
        while len(ports) < len(PORTS):
            if (port := free_port()) not in range(listeners, listeners + LISTENERS):
                ports[PORTS[len(ports)]] = port
        self.publish_to = f"http://127.0.0.1:{ports['producer']}/publish"
        flags = [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
        self.said = directory / "said"
        with self.said.open("w") as out:
            self.process = subprocess.Popen(
                [str(executable("unlost")), "up", "--ha", "--data", str(directory / "data"), *flags,
                 "--listener-port", str(listeners)],
                stdout=out, stderr=subprocess.STDOUT, cwd=directory,
            )  # fmt: skip

    def printed(self, *words: str) -> bool:
        assert self.process.poll() is None, self.said.read_text()
        return all(word in self.said.read_text() for word in words)

    def child(self, name: str) -> psutil.Process:
        """The process of this name; of several servers of one program, the one that was started first."""
        children = sorted(psutil.Process(self.process.pid).children(), key=lambda one: one.create_time())
        return next(one for one in children if self._is(one, name))

    @staticmethod
    def _is(child: psutil.Process, name: str) -> bool:
        if child.status() == psutil.STATUS_ZOMBIE:
            return False
        return child.name() == name or child.environ().get("INSTANCE_ID") == name.removeprefix("listener-")

    def environment(self) -> dict[str, str]:
        lines = (self.directory / "data" / "env").read_text().splitlines()
        return dict(line.replace("'", "").split("=", 1) for line in lines)

    def publish(self, event_id: str) -> None:
        """Publish until it is answered, as every publisher should."""
        headers = {"authorization": f"Bearer {self.environment()['UNLOST_TOKEN']}"}

        def answered() -> bool:
            try:
                answer = httpx.post(
                    self.publish_to,
                    json={"event_id": event_id, "payload": {}},
                    headers=headers,
                    trust_env=False,
                    timeout=5,
                )
            except httpx.TransportError:
                return False
            return answer.status_code in (202, 409)

        until(answered)

    def audit(self) -> str:
        done = subprocess.run(
            [str(executable("unlost")), "audit"], env=os.environ | self.environment(), capture_output=True, text=True,
            timeout=60, check=False, cwd=self.directory,
        )  # fmt: skip
        return f"{done.returncode} {done.stdout}{done.stderr}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(90) == 0, self.said.read_text()


@contextmanager
def running(directory: Path) -> Iterator[Running]:
    one = Running(directory)
    try:
        until(lambda: one.printed("Unlost is up."), 120)
        yield one
        one.stop()
    finally:
        one.process.terminate()
        one.process.wait(90)


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="unlost-test-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.mark.timeout(400)
def test_each_part_may_die(directory: Path) -> None:
    published = 0

    def publish(system: Running, count: int) -> None:
        nonlocal published
        for _ in range(count):
            system.publish(f"e{published}")
            published += 1

    with running(directory) as system:
        publish(system, 10)
        for name in KILLED:
            system.child(name).kill()
            publish(system, 10)
        until(lambda: system.printed("the standby leads now, and the former primary follows it"))
        until(lambda: system.said.read_text().count("restarted") == len(KILLED) - 1)
        until(lambda: system.audit().startswith("0 "))
        assert re.search(rf"\b{published}\b", system.audit()), system.audit()
    with running(directory) as system:
        publish(system, 10)
        until(lambda: system.audit().startswith("0 "))
        assert re.search(rf"\b{published}\b", system.audit()), system.audit()


def test_data_of_the_other_kind_is_refused(directory: Path) -> None:
    (directory / "data" / "postgres" / "cluster").mkdir(parents=True)
    (directory / "data").chmod(0o711)
    one = Running(directory)
    assert one.process.wait(60) == 2
    assert "was made without --ha; choose another directory with --data" in one.said.read_text()
