"""Real producer processes: one for each test, or one for all tests of a module that need no empty journal."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from unlost.ops.system.layout import executable

HTTP, STREAM = re.compile(r'"http": "([^"]+)"'), re.compile(r'"stream": "([^"]+)"')


@dataclass
class RunningProducer:
    journal: Path | str
    settings: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        environment = {**os.environ, "PORT": "0", "WS_PORT": "0", "JOURNAL": str(self.journal), **self.settings}
        run = [str(executable("unlost")), "producer"]
        self.process = subprocess.Popen(run, env=environment, stderr=subprocess.PIPE, text=True)
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if found := STREAM.search(line):
                self.url, self.stream = HTTP.search(line).group(1), found.group(1)
                self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=20)
                return
        raise AssertionError("".join(lines))

    def end(self, *, kill: bool = False) -> int:
        if hasattr(self, "http"):
            self.http.close()
        self.process.kill() if kill else self.process.terminate()
        code = self.process.wait(15)
        self.process.stderr.close()
        return code


@contextlib.contextmanager
def running_producer(directory: Path, settings: dict[str, str]) -> Iterator[RunningProducer]:
    one = RunningProducer(directory / "journal.sqlite", settings)
    one.start()
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.end()


@pytest.fixture
def producer(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningProducer]:
    with running_producer(tmp_path, getattr(request, "param", {})) as one:
        yield one


@pytest.fixture(scope="module")
def shared_producer(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[RunningProducer]:
    """One that the tests of a module neither end nor restart. Each of them publishes ids of its own, or none."""
    with running_producer(tmp_path_factory.mktemp("shared"), {}) as one:
        yield one
