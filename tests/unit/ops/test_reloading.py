"""Of more files than are looked at, ``--reload`` says so, once. A child that does not stop is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ONCE = """
import sys
from pathlib import Path
from unlost.ops.kit.command.reloading import Reloading

child = "import time; time.sleep(1)"
sys.exit(Reloading([sys.executable, "-c", child], Path(sys.argv[1]), patience=9, most_files=3).run())
"""


@pytest.mark.parametrize(("count", "said"), [(2, 0), (5, 1)])
def test_too_many_files_to_watch_are_reported_once(tmp_path: Path, count: int, said: int) -> None:
    for number in range(count):
        (tmp_path / f"module_{number}.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", ONCE, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    sentence = f"reload: only 3 Python files below {tmp_path} are looked at; a change of another is not noticed"
    assert done.stderr.count(sentence) == said


STUBBORN = """
import sys
from pathlib import Path
from unlost.ops.kit.command.reloading import Reloading

child = (
    "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True));"
    "print('began', flush=True); time.sleep(60)"
)
sys.exit(Reloading([sys.executable, "-c", child], Path(sys.argv[1]), patience=float(sys.argv[2])).run())
"""


@pytest.mark.parametrize(("patience", "again"), [(0.2, False), (50.0, True)])
def test_a_child_that_does_not_stop_is_killed_in_time_or_by_a_second_signal(
    tmp_path: Path, patience: float, again: bool
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path), str(patience)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "began\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.readline() == "asked\n"
        if again:
            running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 256 - signal.SIGKILL
    assert ("killed, since it did not stop within 0.2 s" in err) is not again


def test_a_child_that_does_not_stop_for_a_change_is_killed_and_started_again(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path), "0.2"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    ) as running:  # fmt: skip
        assert running.stdout is not None
        assert running.stdout.readline() == "began\n"
        (tmp_path / "changed.py").touch()
        assert [running.stdout.readline() for _ in range(2)] == ["asked\n", "began\n"]
        running.terminate()
        running.communicate(timeout=20)
