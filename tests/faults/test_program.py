"""The stand-in as a program, started as drills start it."""

import json
import signal
import subprocess
import sys

import httpx


def test_the_program_says_its_port_serves_and_ends_on_a_signal():
    command = [sys.executable, "-m", "unlost.ops.faults.toxics", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        port = json.loads(process.stdout.readline())["port"]
        assert httpx.get(f"http://127.0.0.1:{port}/proxies", trust_env=False).json() == {}
        taken = subprocess.run([*command[:-1], str(port)], capture_output=True, check=False, text=True)
        assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
