"""``unlost up``: all or nothing at the start, everything stopped at the end, and the data kept for the next start."""

import json
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from unlost.ops.system.layout import free_ports

UNLOST = Path(sys.executable).parent / "unlost"


@pytest.fixture
def data():
    directory = Path(tempfile.mkdtemp(prefix="unlost-test-"))
    directory.chmod(0o711)
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


class Up:
    """A running ``unlost up``, whose output can be waited for."""

    def __init__(self, data, ports):
        self.ports = ports
        self.text = ""
        self._grew = threading.Condition()
        self.process = subprocess.Popen(
            [UNLOST, "up", "--data", data, *arguments(ports)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=data,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._grew:
                self.text += line
                self._grew.notify_all()
        with self._grew:
            self._grew.notify_all()

    def wait_for(self, pattern, timeout=45):
        with self._grew:
            assert self._grew.wait_for(lambda: re.search(pattern, self.text), timeout), self.text
            return re.search(pattern, self.text)

    def family(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, with_signal=signal.SIGTERM):
        family = self.family()
        self.process.send_signal(with_signal)
        code = self.process.wait(45)
        self._reader.join()
        self.process.stdout.close()
        assert not psutil.wait_procs(family, timeout=10)[1]
        return code


@pytest.fixture
def start(data):
    started = []

    def start(ports):
        started.append(Up(data, ports))
        return started[-1]

    yield start
    for up in started:
        if up.process.poll() is None:
            up.end()


def arguments(ports):
    return [
        "--producer-port", str(ports.producer), "--ws-port", str(ports.stream), "--listener-port",
        str(ports.listeners[0]), "--listener-count", "1", "--postgres-port", str(ports.postgres),
        "--redis-port", str(ports.redis), *(("--console-port", str(ports.console)) if ports.console else ()),
    ]  # fmt: skip


def test_taken_ports_are_all_reported_before_anything_starts(data):
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
            one.listen()
        taken = {"--producer-port": first.getsockname()[1], "--redis-port": second.getsockname()[1]}
        flags = arguments(free_ports(1, console=True)) + [str(part) for pair in taken.items() for part in pair]
        done = subprocess.run([UNLOST, "up", "--data", data, *flags], capture_output=True, text=True, cwd=data)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: port {port} is taken; stop what listens there, or choose another with {flag}"
        for flag, port in taken.items()
    ]
    assert [path.name for path in data.iterdir()] == ["lock"]


def test_two_things_on_one_port_are_refused():
    done = subprocess.run([UNLOST, "up", "--ws-port", "3005"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "error: --producer-port and --ws-port are both 3005; choose two ports\n",
    )


@pytest.mark.timeout(180)
def test_a_killed_child_comes_back_nothing_outlives_the_end_and_the_data_stays(data, start):
    ports = free_ports(1, console=True)
    up = start(ports)
    up.wait_for("Ctrl-C stops everything")
    url = f"http://127.0.0.1:{ports.producer}"
    event = {"event_id": "one", "payload": {}}
    assert httpx.post(f"{url}/publish", json=event, trust_env=False).status_code == 401
    assert stat.S_IMODE((data / "authorization").stat().st_mode) == 0o600
    name, _, value = (data / "authorization").read_text().strip().partition(": ")
    mine = {name: value}
    assert httpx.post(f"{url}/publish", json=event, headers=mine, trust_env=False).status_code == 202
    listener = next(
        one for one in up.family() if "INSTANCE_ID" in one.environ() and one.environ()["INSTANCE_ID"] == "a"
    )
    listener.kill()
    up.wait_for(r"listener-a +restarted")
    second = subprocess.run(
        [UNLOST, "up", "--data", data, *arguments(free_ports(1, console=True))],
        capture_output=True,
        text=True,
        cwd=data,
    )
    assert second.returncode == 2
    assert str(up.process.pid) in second.stderr
    assert up.end() == 0
    again = start(ports)
    again.wait_for("Ctrl-C stops everything")
    answer = httpx.post(f"{url}/publish", json=event, headers=mine, trust_env=False)
    assert answer.status_code == 409, json.dumps(answer.json())
    assert again.end(signal.SIGINT) == 0


@pytest.mark.timeout(120)
def test_the_check_passes_and_leaves_nothing():
    done = subprocess.run([UNLOST, "check"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("PASS")
