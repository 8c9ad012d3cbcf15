"""``unlost top``: once into a pipe, as JSON, and live on a terminal until q."""

import fcntl
import json
import os
import pty
import socket
import struct
import subprocess
import termios

from tests.end_to_end.console.conftest import Stage
from unlost.ops.system.layout import executable


def environment(stage: Stage) -> dict[str, str]:
    layout = stage.system.layout
    return os.environ | {
        "LISTENERS": ",".join(layout.listener_urls), "PRODUCER_URL": layout.producer_url,
        "DATABASE_URL": stage.system.postgres.url, "LETTERS": ",".join(map(str, layout.letter_files)),
        "UNLOST_TOKEN": layout.tokens.user,
    }  # fmt: skip


def test_once_as_json_for_a_pipe(stage: Stage):
    done = subprocess.run(
        [executable("unlost"), "top", "--once", "--json"], env=environment(stage), capture_output=True, text=True
    )
    shown = json.loads(done.stdout)
    assert [one["name"] for one in shown["picture"]["listeners"]] == ["a", "b"]
    assert done.returncode == (0 if shown["verdict"]["level"] == "good" else 1), done.stderr


def test_without_a_token_it_says_what_is_missing(stage: Stage):
    without = environment(stage) | {"UNLOST_TOKEN": ""}
    done = subprocess.run([executable("unlost"), "top", "--once"], env=without, capture_output=True, text=True)
    assert done.returncode == 1
    assert "set UNLOST_TOKEN" in done.stdout


def test_an_unreachable_process_is_reported_with_what_to_do():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        done = subprocess.run(
            [executable("unlost"), "top", "--once", "--listeners", address], capture_output=True, text=True
        )
    assert done.returncode == 1
    assert "does not answer (nobody listens there), for 1 s. Nothing is consumed. Start it again" in done.stdout
    assert "\x1b" not in done.stdout


def test_it_ends_with_its_terminal(stage: Stage):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [executable("unlost"), "top"], env=environment(stage) | {"TERM": "xterm"}, stdin=theirs, stdout=theirs,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    process.wait(20)


def until_quit(stage: Stage, ours: int, theirs: int) -> tuple["subprocess.Popen[bytes]", bytes]:
    """Run it in this terminal until it says how to leave, and leave. Returns what it showed."""
    process = subprocess.Popen(
        [executable("unlost"), "top"], env=environment(stage) | {"TERM": "xterm"}, stdin=theirs, stdout=theirs,
        stderr=theirs, start_new_session=True,
    )  # fmt: skip
    seen = b""
    while b"q quits" not in seen:
        seen += os.read(ours, 65_536)
    os.write(ours, b"q")
    return process, seen


def test_live_until_q_and_the_terminal_is_as_it_was(stage: Stage):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    process, seen = until_quit(stage, ours, theirs)
    os.set_blocking(ours, False)
    assert process.wait(20) == 0
    after = termios.tcgetattr(theirs)
    os.close(theirs)
    os.close(ours)
    assert after == before
    for part in (b"LISTENER", b"PostgreSQL", b"letters"):
        assert part in seen


def test_a_low_terminal_still_says_how_to_leave(stage: Stage):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 80, 0, 0))
    process, _ = until_quit(stage, ours, theirs)
    assert process.wait(20) == 0
    os.close(theirs)
    os.close(ours)
