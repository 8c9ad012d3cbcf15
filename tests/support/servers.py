"""Real servers for tests: one PostgreSQL and one Valkey per session, and separate ones to kill or freeze."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.clusters import put_cluster
from tests.support.databases import Databases
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.installed import Origin
from unlost.ops.system.pooler import Pooler
from unlost.ops.system.postgres import PostgresServer, unprivileged_user
from unlost.ops.system.postgres_pair import PostgresPair
from unlost.ops.system.redis_cluster import ValkeyCluster
from unlost.ops.system.redis_topologies import RedisTopology
from unlost.ops.system.valkey import ValkeyServer

# Many small tests share this server. The settings that protect data stay on: fsync, synchronous_commit.
SMALL = ("-c", "shared_buffers=32MB", "-c", "max_wal_size=256MB")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The session's PostgreSQL. Use ``database_url`` for a separate database."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """The session's Valkey. Use ``redis_url`` for a separate database."""
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="session")
def _databases(postgres_server: PostgresServer) -> Databases:
    return Databases(postgres_server)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, _databases: Databases) -> Iterator[str]:
    """The address of an empty database; with ``pytest.mark.database("migrated")``, of one with the group's tables."""
    mark = request.node.get_closest_marker("database")
    with _databases.migrated() if mark and mark.args == ("migrated",) else _databases.empty() as url:
        yield url


@pytest.fixture(scope="session")
def _database_numbers() -> Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def redis_url(valkey_server: ValkeyServer, _database_numbers: Iterator[int]) -> str:
    """The address of an empty database that no other test uses."""
    return valkey_server.url_of(next(_database_numbers))


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone, to be killed, frozen or restarted."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A Valkey for this test alone, to be killed, frozen, wiped or restarted."""
    with running_valkey() as server:
        yield server


@contextlib.contextmanager
def running_postgres(*options: str, by_socket: bool = False, origin: Origin = "wheel") -> Iterator[PostgresServer]:
    """A PostgreSQL in its own directory, which is removed afterwards."""
    with _directory() as directory:
        server = PostgresServer(directory / "postgres", options=(*SMALL, *options), by_socket=by_socket, origin=origin)
        _start(server)
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def running_pair() -> Iterator[PostgresPair]:
    """A PostgreSQL and its synchronous standby."""
    with _directory() as directory:
        pair = PostgresPair(directory, options=SMALL)
        put_cluster(pair.primary.cluster.parent)
        try:
            pair.start()
            yield pair
        finally:
            for server in (pair.primary, pair.standby):
                with contextlib.suppress(ChildFailed):
                    server.kill()


@contextlib.contextmanager
def running_pooler(server: PostgresServer, *, mode: str, size: int) -> Iterator[Pooler]:
    """A pgbouncer before a server."""
    with _directory() as directory:
        pooler = Pooler(directory, server, mode=mode, size=size)
        if (user := unprivileged_user()) is not None:
            shutil.chown(directory, user)
        try:
            pooler.start()
            yield pooler
        finally:
            pooler.stop()


@contextlib.contextmanager
def running_valkey(
    *, by_socket: bool = False, options: Mapping[str, str | int] | None = None
) -> Iterator[ValkeyServer]:
    """A Valkey in its own directory, which is removed afterwards."""
    with _directory() as directory:
        server = ValkeyServer(directory / "valkey", by_socket=by_socket, options=options)
        _start(server)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def valkey_cluster() -> Iterator[ValkeyCluster]:
    """A Cluster of six nodes for one module, since they are never idle. Use ``cluster_url`` for an empty one."""
    with running_topology(ValkeyCluster) as cluster:
        yield cluster


@pytest.fixture
def cluster_url(valkey_cluster: ValkeyCluster) -> str:
    """The address of a Cluster that has forgotten all earlier tests."""
    valkey_cluster.flush()
    return valkey_cluster.url


T = TypeVar("T", bound=RedisTopology)


@contextlib.contextmanager
def running_topology(kind: Callable[[Path], T]) -> Iterator[T]:
    """Several Valkey servers in their own directory, which is removed afterwards."""
    with _directory() as directory:
        topology = kind(directory)
        try:
            topology.start()
            yield topology
        finally:
            topology.stop()


def _start(server: PostgresServer | ValkeyServer) -> None:
    try:
        if isinstance(server, PostgresServer) and server.origin == "wheel":
            put_cluster(server.cluster.parent)
        server.start()
    except ChildFailed as failed:
        if "is not installed" in str(failed) and not os.environ.get("CI"):
            pytest.skip(str(failed))
        raise


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A directory that an unprivileged server may enter. Other users cannot enter pytest's own directories."""
    directory = Path(tempfile.mkdtemp(prefix="unlost-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
