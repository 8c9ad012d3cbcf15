"""Backs up a running PostgreSQL and restores the backup, as the manual of PostgreSQL and ours say.

There are two kinds: a copy of the data directory, which takes the server's place while it is stopped, and a dump of the
database, which is restored while the server runs.
"""

import shutil
import subprocess
from pathlib import Path

from unlost.ops.system.child import ChildFailed
from unlost.ops.system.postgres import DATABASE, PostgresServer

TAKES_AT_MOST = 120.0
DUMP_OPTIONS = ("--no-unlogged-table-data",)
"""Without claims, the restored database is recognised as another one at once."""


def copy_data(server: PostgresServer) -> None:
    """Copy with ``pg_basebackup``. An earlier copy is replaced."""
    copy = _copy_of(server)
    shutil.rmtree(copy, ignore_errors=True)
    _run(server, "pg_basebackup", "-d", server.url, "-D", str(copy), "-c", "fast", "-X", "stream")


def put_copy_in_place(server: PostgresServer) -> None:
    """Replace the data directory by the copy. The server must not run."""
    shutil.rmtree(server.cluster)
    _copy_of(server).rename(server.cluster)
    for path in (server.cluster, *server.cluster.rglob("*")):
        server.own(path)


def dump(server: PostgresServer, *options: str, file: Path | None = None) -> None:
    """Write a dump with ``pg_dump``. An earlier dump is replaced."""
    file = file or _dump_of(server)
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)  # it holds events
    _run(server, "pg_dump", "-d", server.url, "-f", str(file), *(options or DUMP_OPTIONS))


def restore_dump(server: PostgresServer) -> None:
    """Replace the database by an empty one, and restore the dump with ``psql``, all of it or nothing."""
    empty_database(server)
    load(server, _dump_of(server), "--single-transaction")


def empty_database(server: PostgresServer) -> None:
    """Replace the database by an empty one with the same name. Every client loses its connection."""
    server.drop_database(DATABASE)
    server.create_database(DATABASE)


def load(server: PostgresServer, file: Path, *options: str) -> None:
    """Run a dump with ``psql``, which ends at the first error."""
    _run(server, "psql", "-X", "-q", *options, "-v", "ON_ERROR_STOP=1", "-d", server.url, "-f", str(file))


def _run(server: PostgresServer, program: str, *arguments: str) -> None:
    argv = [str(server.program(program)), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TAKES_AT_MOST, check=False)
    if done.returncode:
        raise ChildFailed(program, f"failed: {done.stderr.strip()[-300:]}")


def _copy_of(server: PostgresServer) -> Path:
    return server.cluster.with_name("copy")


def _dump_of(server: PostgresServer) -> Path:
    return server.cluster.with_name("dump.sql")
