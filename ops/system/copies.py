"""Copies the data directory of a running PostgreSQL, and restores the copy while the server is stopped."""

import os
import shutil
import subprocess
from pathlib import Path

from unlost.ops.system.child import ChildFailed
from unlost.ops.system.postgres import PostgresServer

TAKES_AT_MOST = 120.0


def copy_data(server: PostgresServer) -> None:
    """Copy with ``pg_basebackup``, as PostgreSQL's manual and ours say. An earlier copy is replaced."""
    copy = _copy_of(server)
    shutil.rmtree(copy, ignore_errors=True)
    argv = [str(server.program("pg_basebackup")), "-d", server.url, "-D", str(copy), "-c", "fast", "-X", "stream"]
    done = subprocess.run(
        argv, env={**os.environ}, capture_output=True, text=True, timeout=TAKES_AT_MOST, check=False
    )  # fmt: skip
    if done.returncode:
        raise ChildFailed("pg_basebackup", f"failed: {done.stderr.strip()[-300:]}")


def put_copy_in_place(server: PostgresServer) -> None:
    """Replace the data directory by the copy. The server must not run."""
    shutil.rmtree(server.cluster)
    _copy_of(server).rename(server.cluster)
    for path in (server.cluster, *server.cluster.rglob("*")):
        server.own(path)


def _copy_of(server: PostgresServer) -> Path:
    return server.cluster.with_name("copy")
