"""A server in a process of its own that speaks MongoDB's wire protocol."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from unlost.ops.system.ports import free_port


class Mongo:
    """One server. It may be stopped and started again: its documents are files."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/shop"

    def start(self) -> None:
        self._directory.mkdir(exist_ok=True)
        files = ["--data-dir", str(self._directory), "--log-file", str(self._directory / "log")]
        command = [str(Path(sys.executable).parent / "nx-27017"), "-p", str(self.port), *files]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert time.monotonic() < deadline, "the server does not listen"
            assert self._process.poll() is None, "the server has ended"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None


@contextlib.contextmanager
def running_mongo(directory: Path) -> Iterator[Mongo]:
    mongo = Mongo(directory)
    mongo.start()
    try:
        yield mongo
    finally:
        mongo.stop()
