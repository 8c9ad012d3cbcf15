"""Files with other people's data are private to their owner. Mistakes are reported at the start, in one sentence."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unlost.dlq.record.file import DeadLetterFile, FileError
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry.files import private_descriptor, private_directory
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, free_ports, write_environment
from unlost.ops.system.reserved import reserved
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.journal.sqlite.adapter import SqliteJournal


@pytest.fixture(autouse=True)
def _open_handed() -> Iterator[None]:
    before = os.umask(0o000)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_directory_is_private_with_all_that_was_made_above_it(tmp_path: Path):
    (tmp_path / "there").mkdir(mode=0o755)
    private_directory(tmp_path / "there" / "a" / "b")
    assert [mode(tmp_path / one) for one in ("there", "there/a", "there/a/b")] == [0o755, 0o700, 0o700]


def test_a_file_that_all_could_read_becomes_private(tmp_path: Path):
    (tmp_path / "log").write_text("before")
    (tmp_path / "log").chmod(0o644)
    os.close(private_descriptor(tmp_path / "log", os.O_WRONLY))
    assert (mode(tmp_path / "log"), (tmp_path / "log").read_text()) == (0o600, "before")


def test_a_journal_and_what_lies_beside_it_are_private(tmp_path: Path):
    path = tmp_path / "data" / "journal.sqlite"
    journal = SqliteJournal(path)
    files = list(path.parent.iterdir())
    assert len(files) >= 2
    assert {mode(file) for file in files} == {0o600}
    assert mode(path.parent) == 0o700
    journal.close()


def test_all_that_ops_up_writes_is_private(tmp_path: Path):
    layout = Layout(tmp_path / "data", free_ports(1))
    with reserved(layout):
        child = Child("one", [sys.executable, "-c", "print(1)"], log=layout.log("one"))
        child.start()
        child.stop()
        layout.producer()
        write_environment(layout, "postgresql://u:p@h/d", "redis://h/")
        write_environment(layout, "postgresql://h/d", "redis://h/")
    found = {str(path.relative_to(layout.data)): mode(path) for path in layout.data.rglob("*")}
    assert found == {"lock": 0o600, "env": 0o600, "logs": 0o700, "logs/one.log": 0o600, "producer": 0o700}
    assert mode(layout.data) == (0o711 if os.geteuid() == 0 else 0o700)
    assert f"DATABASE_URL={shlex.quote('postgresql://h/d')}\n" in layout.environment_file.read_text()


def test_letters_and_their_lock_are_private(tmp_path: Path):
    DeadLetterFile(tmp_path / "letters.jsonl").close()
    assert {mode(file) for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["directory", "missing/letters.jsonl", "pipe", "device"])
def test_letters_that_cannot_be_written_are_a_mistake_at_start(tmp_path: Path, name: str):
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/null")  # its lock lies here, because all processes of the machine share /dev
    for _ in range(2):  # a refused file does not stay locked
        with pytest.raises(FileError, match=r"cannot (write|lock)"):
            DeadLetterFile(tmp_path / name)


def test_a_listener_says_so_in_one_sentence_and_ends_with_2(tmp_path: Path):
    environment = {
        **os.environ,
        "DEAD_LETTER_FILE": str(tmp_path),
        "PORT": "0",
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
    }
    run = [sys.executable, "-c", "from unlost.listener.app.cli import main; main()"]
    ended = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=50, check=False, cwd=tmp_path)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: cannot write {tmp_path}: ")
    assert ended.stderr.count("\n") == 1


def test_foreign_names_in_the_file_of_settings_do_not_hide_our_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env").write_text("DJANGO_SECRET=s3cr3t\nCOMPOSE_PROJECT_NAME=shop\nPORT=many\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)
    with pytest.raises(UsageProblem) as refused:
        ProducerSettings.load({})
    (problem,) = refused.value.problems
    assert problem.startswith("--port (PORT): ")


def test_credentials_in_a_mistake_are_masked():
    with pytest.raises(UsageProblem) as refused:
        ProducerSettings.load({"listeners": "ftp://u:s3cr3t@h/?sig=s3cr3t", "console_url": "ftp://u:s3cr3t@h/"})
    assert len(refused.value.problems) == 2
    assert "s3cr3t" not in str(refused.value)


def test_a_child_that_is_asked_to_stop_twice_is_signalled_once(tmp_path: Path):
    """A second signal would reach a process that has drained and removed its handlers: exit code -15."""
    program = (
        "import signal, sys, time\n"
        "def drained(*_):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "    print('drained', flush=True); time.sleep(0.5); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, drained); print('up', flush=True)\n"
        "while True: time.sleep(60)\n"
    )
    child = Child("one", [sys.executable, "-c", program], log=tmp_path / "log", stop_signal=signal.SIGTERM)
    child.start()
    child.wait_until(lambda: "up" in child.tail(), 20)
    child.ask_to_stop()
    child.wait_until(lambda: "drained" in child.tail(), 20)
    assert child.stop() == 0
    child.start()
    child.wait_until(lambda: child.tail().count("up") == 2, 20)
    assert child.stop() == 0
