"""Tables on a terminal of 80 columns."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.support.letters import letter, write
from unlost.dlq.commands.cli import main


def on_a_terminal(*words: object) -> list[str]:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen(
        [sys.executable, "-c", "from unlost.dlq.commands.cli import main; main()", *map(str, words)],
        stdin=theirs, stdout=theirs, env={**os.environ, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(theirs)
        text = b""
        while chunk := _read(ours):
            text += chunk
    os.close(ours)
    assert process.returncode == 0
    return text.decode().splitlines()


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # how Linux reports that the other end of a terminal is closed
        return b""


@pytest.mark.parametrize("command", ["list", "groups"])
def test_a_long_error_makes_no_long_line_in_a_pipe_and_is_whole_as_json(tmp_path: Path, command: str):
    path = write(tmp_path / "letters.jsonl", [letter("order-1", message="gone " * 400)])
    line = CliRunner().invoke(main, [command, str(path)]).output.splitlines()[1]
    assert line.endswith("…")
    assert line.count("gone") > 20
    assert len(line) < 400
    assert CliRunner().invoke(main, [command, str(path), "--json"]).output.count("gone " * 399) >= 1


@pytest.mark.parametrize("command", ["list", "groups"])
def test_rows_fit_and_only_the_failure_gives_way(tmp_path: Path, command: str):
    path = write(tmp_path / "letters.jsonl", [letter(f"order-{i}-{'x' * 40}", message="gone " * 30) for i in range(3)])
    lines = on_a_terminal(command, path)
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].rstrip().endswith("…")
    assert "11-14 22:13" in lines[1]
    assert "exhausted" in lines[1]
