"""A Toxiproxy for the tests: always the stand-in, and a real server if one is available."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest
from toxiproxy import Toxiproxy
from toxiproxy.api import APIConsumer

from tests.support.frail import Frail
from tests.support.servers import running_postgres, running_valkey
from unlost.ops.faults.toxics.server import running_in_thread
from unlost.ops.system.ports import free_port
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.valkey import ValkeyServer

REAL = "toxiproxy-server"
QUICK_RECOVERY = ("-c", "fsync=off")
"""A killed process leaves its writes to the kernel. Only a machine that loses power would need more."""


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
    """The client, pointed at the server. The library has one global address, so it is set for each test."""
    before = APIConsumer.host, APIConsumer.port
    client = Toxiproxy()
    client.update_api_consumer("127.0.0.1", toxiproxy_port)
    yield client
    client.destroy_all()
    APIConsumer.host, APIConsumer.port = before


@pytest.fixture(scope="session")
def _fault_proxies_port() -> Iterator[int]:
    there = os.environ.get("TOXIPROXY_URL") or shutil.which(REAL)
    with real_toxiproxy() if there else running_in_thread() as port:
        yield port


@pytest.fixture
def fault_proxies(_fault_proxies_port: int, monkeypatch: pytest.MonkeyPatch) -> Toxiproxy:
    """The client of a real Toxiproxy if there is one, otherwise of the stand-in."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(APIConsumer, "host", "127.0.0.1")
    monkeypatch.setattr(APIConsumer, "port", _fault_proxies_port)
    return Toxiproxy()


@pytest.fixture(scope="session")
def _lasting_thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, "frail servers") as thread:
        yield thread


@pytest.fixture(scope="session")
def _frail_postgres(_lasting_thread: ThreadPoolExecutor) -> Iterator[Frail[PostgresServer]]:
    with running_postgres(*QUICK_RECOVERY) as server:
        yield Frail(server, _lasting_thread)


@pytest.fixture(scope="session")
def _frail_valkey(_lasting_thread: ThreadPoolExecutor) -> Iterator[Frail[ValkeyServer]]:
    with running_valkey() as server:
        yield Frail(server, _lasting_thread)


@pytest.fixture
def frail_postgres(_frail_postgres: Frail[PostgresServer]) -> Iterator[Frail[PostgresServer]]:
    """A PostgreSQL that may be stopped, killed and frozen. It is restored before the next test."""
    yield _frail_postgres
    _frail_postgres.heal()


@pytest.fixture
def frail_valkey(_frail_valkey: Frail[ValkeyServer]) -> Iterator[Frail[ValkeyServer]]:
    """A Valkey that may be stopped, frozen and emptied. It is restored and emptied before the next test."""
    yield _frail_valkey
    _frail_valkey.heal()
    _frail_valkey.server.flush()
