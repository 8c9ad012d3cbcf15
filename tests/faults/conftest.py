"""A Toxiproxy for the tests: the stand-in everywhere, and a real server where one is to be had."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer

from ops.local.ports import free_port
from ops.toxics.server import running_in_thread

REAL = "toxiproxy-server"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "toxiproxy_kind" in metafunc.fixturenames:
        metafunc.parametrize("toxiproxy_kind", ["stand-in", "real"], scope="module")


@contextlib.contextmanager
def real_toxiproxy() -> Iterator[int]:
    """The server at TOXIPROXY_URL, or one started from the binary on the PATH."""
    if url := os.environ.get("TOXIPROXY_URL"):
        yield urlsplit(url).port or 8474
        return
    binary = shutil.which(REAL)
    if binary is None:
        pytest.skip(f"needs {REAL} on the PATH or TOXIPROXY_URL; no package of it is to be had from PyPI or Debian")
    port = free_port()
    with subprocess.Popen([binary, "-host", "127.0.0.1", "-port", str(port)], stdout=subprocess.DEVNULL) as process:
        try:
            give_up = time.monotonic() + 20
            while True:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"http://127.0.0.1:{port}/version", trust_env=False)
                    break
                assert time.monotonic() < give_up, f"{binary} does not answer"
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def toxiproxy_port(toxiproxy_kind: str) -> Iterator[int]:
    with running_in_thread() if toxiproxy_kind == "stand-in" else real_toxiproxy() as port:
        yield port


@pytest.fixture
def toxiproxy(toxiproxy_port: int) -> Iterator[Toxiproxy]:
    """The client, pointed at the server; it has one address for all, so it is set for each test."""
    before = APIConsumer.host, APIConsumer.port
    client = Toxiproxy()
    client.update_api_consumer("127.0.0.1", toxiproxy_port)
    yield client
    client.destroy_all()
    APIConsumer.host, APIConsumer.port = before
