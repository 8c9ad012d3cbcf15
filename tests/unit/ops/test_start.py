"""A process stopped while it still loads its modules ends in order, and ``unlost up`` does not call that a failure."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.ports import free_port
from unlost.ops.system.restarts import StartStep
from unlost.ops.system.system import System

BIN = Path(sys.executable).parent
SEED = random.randrange(1_000_000)
ARGUMENTS = {
    "listener": ("--database-url", "postgresql://nobody@127.0.0.1:1/none", "--redis-url", "redis://127.0.0.1:1"),
    "producer": ("--ws-port", "0"),
}


def heeds_sigterm(pid: int) -> bool:
    """Whether the process has its own handler for it."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_handler_stands_before_anything_is_loaded(name: str):
    (command,) = entry_points(group="console_scripts", name="unlost")
    module, _, function = command.value.partition(":")
    before_all_else = f"{module}.DAEMONS.index('{name}'), hasattr({module}, '{function}')"
    loaded = f"import sys, {module}; print({before_all_else}, *sys.modules)"
    shown = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert shown[1] == "True"
    assert {one for one in shown if one.partition(".")[0] == "unlost"} == {"unlost", "unlost.ops", "unlost.ops.start"}
    assert not {"click", "uvloop", "pydantic", "asyncio"}.intersection(shown)


CRASH = """
import sys, threading, unlost.ops.cli, unlost.dlq.commands.cli
from unlost.ops.start import {start} as start
def crash(*_, **__):
    address = "postgresql://u:hunter2@db:5432/d"
    raise ValueError(f"\\x1b[31m cannot use {{address}} token=hunter2")
def in_thread(*_, **__):
    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
unlost.ops.cli.main = unlost.dlq.commands.cli.main = {crash}
start()
"""


@pytest.mark.parametrize(("crash", "code"), [("crash", 1), ("in_thread", 0)])
@pytest.mark.parametrize("start", ["main", "dlq"])
def test_a_crash_shows_its_place_and_no_password(start: str, crash: str, code: int):
    program = CRASH.format(start=start, crash=crash)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("cannot use postgresql://***@db:5432/d token=***\n")
    assert "in crash" in done.stderr
    assert "hunter2" not in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("start", "frozen"),
    [
        pytest.param("unlost.ops.start import dlq as main", True, id="dlq"),
        pytest.param("unlost.ops.start import main", True, id="unlost dlq"),
        pytest.param("unlost.dlq.commands.cli import main", False, id="another program"),
    ],
)
def test_garbage_is_collected_once_all_is_loaded(start: str, frozen: bool, tmp_path: Path):
    (tmp_path / "letters.jsonl").touch()
    words = [*(["dlq"] if "start import main" in start else []), "stats", str(tmp_path / "letters.jsonl")]
    look = "atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 10_000))"
    program = f"import atexit, gc, sys; {look}; sys.argv[1:] = {words}; from {start}; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"True {frozen}"


def test_a_daemon_loads_no_rich_and_scans_nothing_that_it_loaded(tmp_path: Path):
    """A handler may import rich all the same."""
    collections = "[one['collections'] for one in gc.get_stats()]"
    look = f"'rich' in sys.modules, hasattr(__import__('rich'), 'print'), gc.isenabled(), before == {collections}"
    program = (
        f"import atexit, gc, sys; gc.disable(); before = {collections}; from unlost.ops.start import main\n"
        f"atexit.register(lambda: print({look}, gc.get_freeze_count() > 50_000)); main()"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-c", program, "producer", "--port", str(taken.getsockname()[1]), "--ws-port", "0"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, "its port is taken, which it knows once it is built"
    assert done.stdout.splitlines()[-1] == "False True True True True", done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_stop_at_any_moment_of_the_start_is_an_orderly_one(name: str, tmp_path: Path):
    rng = random.Random(SEED)
    environment = {"PATH": os.environ["PATH"], "JOURNAL": str(tmp_path / "journal.sqlite3")}
    for number in range(10):
        command = [str(BIN / "unlost"), name, *ARGUMENTS[name], "--port", str(free_port())]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
            while not heeds_sigterm(process.pid):
                assert process.poll() is None
            time.sleep(rng.random() if number else 0.0)
            process.send_signal(signal.SIGINT if number % 5 == 4 else signal.SIGTERM)
            assert process.wait(20) == 0, (SEED, number, process.stderr and process.stderr.read())


def test_ops_up_calls_a_stop_before_the_start_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Python itself needs a moment to start, in which no handler is installed."""
    steps: list[StartStep] = []
    system = System(Layout(tmp_path, free_ports(1), {}), steps.append, threading.Event())
    child = Child("listener a", ["sleep", "60"], log=tmp_path / "log")
    monkeypatch.setattr(system, "listeners", [child])
    monkeypatch.setattr(System, "commands", (child,))
    child.start()
    system.stop()
    assert (steps[0].name, steps[0].what, steps[0].well) == ("listener a", "stopped before it had started", True)


def test_a_process_imports_what_it_runs_and_nothing_else():
    """To find a command needs click alone, its help nothing of a daemon, and a daemon no library of other sources."""
    daemons = ["structlog", "rich", "uvicorn", "websockets", "asyncpg", "redis", "httpx"]
    steps = [
        ("unlost.ops.cli", ["pydantic", *daemons]),
        ("unlost.producer.app.cli", daemons),
        ("unlost.listener.app.cli", daemons),
        ("unlost.ops.console.cli", daemons),
        ("unlost.producer.app.running", ["asyncpg", "redis", "httpx", "jsonschema_rs"]),
        ("unlost.listener.app.running", ["httpx", "nats", "aiokafka", "psycopg", "sqlalchemy", "jsonschema_rs"]),
    ]
    code = "import importlib, sys\n" + "\n".join(
        f"importlib.import_module({module!r}); print({module!r}, [one for one in {unneeded!r} if one in sys.modules])"
        for module, unneeded in steps
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{module} []" for module, _ in steps]
