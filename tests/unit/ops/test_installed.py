"""Servers that are installed on this machine are found, and refused in one sentence where they do not fit."""

from pathlib import Path

import pytest
from redis import Redis

from tests.support.needed import needed
from tests.support.servers import running_postgres
from unlost.ops.system import installed
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.installed import installed_postgres, installed_redis, knows_newer
from unlost.ops.system.valkey import ValkeyServer, binary


def folder(where: Path, version: str, *names: str) -> Path:
    """A folder of programs that say this version."""
    where.mkdir(parents=True)
    for name in names or ("postgres", "initdb", "psql"):
        (where / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
        (where / name).chmod(0o755)
    return where


def test_the_newest_is_taken_wherever_it_is(tmp_path: Path):
    old, new = folder(tmp_path / "15" / "bin", "15.9"), folder(tmp_path / "17" / "bin", "17.2 (Debian)")
    folder(tmp_path / "links", "18.0", "postgres")
    assert installed_postgres(f"{old}:{tmp_path / 'links'}:", [f"{tmp_path}/*/bin"]) == new.parent


@pytest.mark.parametrize(
    ("version", "why"),
    [("14.1", "version 14; 15 or newer"), ("nonsense", "version 0"), (None, "is not installed here")],
)
def test_one_that_does_not_fit_is_one_sentence(tmp_path: Path, version: str | None, why: str):
    if version:
        folder(tmp_path / "bin", version)
    with pytest.raises(ChildFailed, match=why):
        installed_postgres(str(tmp_path / "bin"), [])


def test_a_redis_is_found_by_either_name(tmp_path: Path):
    with pytest.raises(ChildFailed, match="install Valkey or Redis"):
        installed_redis(str(tmp_path))
    folder(tmp_path / "bin", "", "redis-server")
    assert installed_redis(str(tmp_path / "bin")).name == "redis-server"
    folder(tmp_path / "other", "", "valkey-server")
    assert installed_redis(f"{tmp_path / 'bin'}:{tmp_path / 'other'}").name == "valkey-server"


def test_an_installed_postgresql_runs_and_refuses_data_of_another_version():
    needed("initdb", package="postgresql")
    with running_postgres(origin="system") as server:
        version = server.sql("show server_version")
        assert int(version.partition(".")[0]) >= installed.OLDEST_POSTGRES
        server.stop()
        (server.cluster / "PG_VERSION").write_text("12\n")
        with pytest.raises(ChildFailed, match="was made by version 12; start it with --postgres wheel"):
            server.start()


def test_an_installed_valkey_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "valkey-server").symlink_to(binary())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    server = ValkeyServer(tmp_path / "valkey", origin="system")
    server.start()
    try:
        assert Path(f"/proc/{server.child.pid}/cmdline").read_text().startswith(str(tmp_path / "bin" / "valkey-server"))
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("says", "newer"),
    [
        ("Redis server v=7.0.15 sha=0:0", False), ("Redis server v=8.3.9", False), ("Redis server v=8.4.0", True),
        ("Redis server v=10.0.0", True), ("Valkey server v=8.4", False), ("Valkey server v=9.1.2", True), ("x", False),
    ],
)  # fmt: skip
def test_an_older_redis_is_given_no_rights_that_it_does_not_know(tmp_path: Path, says: str, newer: bool):
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    assert knows_newer(program) is newer
    assert not knows_newer(tmp_path / "absent")


def test_an_installed_redis_runs_with_the_user_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Debian's is too old for ``MSETEX``, and a Redis does not start if a user's rights name what it does not know."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(needed("redis-server", package="redis-server"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    server = ValkeyServer(tmp_path / "valkey", origin="system", group="g")
    server.start()
    try:
        with Redis.from_url(server.url_of_group) as client:
            assert client.set("{g.0}a", "b")
    finally:
        server.stop()
