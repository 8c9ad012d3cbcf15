"""Two PostgreSQL servers under Patroni, which promotes the synchronous standby by itself. For tests and drills.

Patroni and etcd come with Debian packages. Both members renew their leases in one etcd, which a real system has three
of. ``ttl`` and all other times are Patroni's defaults.
"""

import json
import os
import secrets
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import httpx
import psutil

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.postgres import DATABASE, SUPERUSER, PostgresServer
from unlost.ops.system.postgres_topologies import url_of
from unlost.ops.system.valkey import write_private

TTL = 30.0
"""Seconds after which the lease of a leader that is gone ends."""
PROMOTED_WITHIN = 3 * TTL
STARTED_WITHIN = FOLLOWS_WITHIN = 120.0
PACKAGES = {"patroni": "patroni", "etcd": "etcd-server"}
CLUSTER: dict[str, Any] = {
    "ttl": int(TTL),
    "loop_wait": 10,
    "retry_timeout": 10,
    "synchronous_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "parameters": {"max_connections": 200, "max_wal_size": "2GB", "jit": "off", "timezone": "UTC"},
    },
}


class PatroniPair:
    """Both members, with one login. See ``PostgresTopology`` for the methods."""

    def __init__(self, directory: Path) -> None:
        self._etcd = _Etcd(directory / "etcd")
        first, second = (_Member(directory / name, self._etcd) for name in ("postgres", "standby"))
        self._servers = self.primary, self.standby = first, second

    @property
    def url(self) -> str:
        """The value of ``DATABASE_URL``: both servers, of which the one that takes rows is used."""
        return url_of(self._servers, self.primary.login)

    def nearest_url_of(self, role: str, password: str) -> str:
        """The same for another role."""
        return url_of(self._servers, f"{quote(role, safe='')}:{password}")

    def start(self) -> None:
        """Start everything, and return when commits wait for the standby."""
        if missing := [package for program, package in PACKAGES.items() if shutil.which(program) is None]:
            raise ChildFailed("patroni", f"is not installed; install Debian's packages {' and '.join(missing)}")
        self._etcd.start()
        password = secrets.token_urlsafe(24)
        for one in self._servers:
            one.take_password(password)
        self.primary.start()
        self.follow()

    def promote(self) -> None:
        """Return when Patroni has promoted the standby. The primary must be gone."""
        self.standby.wait_until("primary", PROMOTED_WITHIN)
        self.primary, self.standby = self.standby, self.primary

    def follow(self) -> None:
        """Start the standby, which Patroni rewinds or makes anew, and return when commits wait for it."""
        self.standby.launch()
        self.standby.wait_until("synchronous", FOLLOWS_WITHIN)

    def stop(self) -> None:
        """Stop everything. The standby goes first, so that it is not promoted."""
        for one in (self.standby, self.primary):
            one.stop()
        self._etcd.child.stop()


class _Etcd:
    """One server that keeps who leads."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        peers, clients = (f"http://{LOOPBACK}:{port}" for port in (free_port(), self.port))
        argv = [
            *("etcd", "--name", "only", "--data-dir", str(directory / "data"), "--initial-cluster", f"only={peers}"),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
        ]
        self.child = Child("etcd", argv, log=directory / "etcd.log")

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.child.start()
        self.child.wait_until(self._answers, STARTED_WITHIN)

    def _answers(self) -> bool:
        with suppress(OSError):
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            return True
        return False


class _Member(PostgresServer):
    """One Patroni with its PostgreSQL, which Patroni makes, starts and stops."""

    name: ClassVar[str] = "patroni"

    def __init__(self, directory: Path, etcd: _Etcd) -> None:
        super().__init__(directory, free_port())
        self._etcd = etcd
        self._api = free_port()

    def take_password(self, password: str) -> None:
        """Keep the password of the superuser."""
        self.password_file.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        write_private(self.password_file, password)

    def wait_until(self, state: str, seconds: float) -> None:
        """Return when Patroni confirms that its PostgreSQL is in this state."""
        self.child.wait_until(lambda: self._confirms(state), seconds)

    def _confirms(self, state: str) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"http://{LOOPBACK}:{self._api}/{state}", timeout=2, trust_env=False).is_success
        return False

    def _init(self) -> None:
        """Patroni does it."""

    def _is_ready(self) -> bool:
        return self._confirms("health")

    def _new_child(self) -> Child:
        config = self._directory / "patroni.json"
        write_private(config, json.dumps(self._config()))  # JSON is YAML
        self.own(config)
        return _PatroniProcess(self.cluster, config, log=self._log, user=self._user)

    def _config(self) -> dict[str, Any]:
        login = {"username": SUPERUSER, "password": self._password()}
        api, at = f"{LOOPBACK}:{self._api}", f"{LOOPBACK}:{self._port}"
        return {
            "scope": DATABASE,
            "name": self._directory.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"hosts": [f"{LOOPBACK}:{self._etcd.port}"]},
            "bootstrap": {"dcs": CLUSTER, "initdb": [{"encoding": "UTF8"}, "no-locale", "data-checksums"]},
            "postgresql": {
                "listen": at,
                "connect_address": at,
                "data_dir": str(self.cluster),
                "bin_dir": str(self.program("postgres").parent),
                "pgpass": str(self._directory / "pgpass"),
                "authentication": {"superuser": login, "replication": login},
                "pg_hba": [f"host {what} all {LOOPBACK}/32 scram-sha-256" for what in ("all", "replication")],
                "parameters": {"unix_socket_directories": ""},
                "basebackup": [{"checkpoint": "fast"}],
            },
        }


class _PatroniProcess(Child):
    """Patroni, and the PostgreSQL that it started and that is no child of it."""

    def __init__(self, cluster: Path, config: Path, *, log: Path, user: str | None) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        super().__init__("patroni", ["patroni", str(config)], log=log, environment=environment, user=user)
        self._cluster = cluster

    def stop(self, timeout: float = 20.0) -> int | None:
        """Stop both in order, or by SIGKILL after ``timeout``; return Patroni's exit code."""
        code = super().stop(timeout)
        self.kill()
        return code

    def _family(self) -> list[psutil.Process]:
        return [*super()._family(), *self._servers()]

    def _servers(self) -> list[psutil.Process]:
        """The processes of PostgreSQL. Its file may name a process that is another one by now."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            postmaster = psutil.Process(int((self._cluster / "postmaster.pid").read_text().splitlines()[0]))
            if str(self._cluster) in postmaster.cmdline():
                return [postmaster, *postmaster.children(recursive=True)]
        return []
