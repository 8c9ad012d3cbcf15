"""pgbouncer before a PostgreSQL, for tests and drills. The program comes with a Debian package."""

import os
import shutil
import socket
from pathlib import Path

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.postgres import SUPERUSER, PostgresServer, unprivileged_user

STARTUP = 10.0


class Pooler:
    """One pgbouncer."""

    def __init__(self, directory: Path, server: PostgresServer, *, mode: str = "transaction", size: int = 20) -> None:
        self._directory = directory.absolute()
        self._server = server
        self._mode = mode
        self._size = size
        self._port = free_port()
        self.child = Child("pgbouncer", [], log=self._directory / "pgbouncer.log")

    @property
    def url(self) -> str:
        """The URL of the database ``unlost`` by way of this pooler."""
        return self.by_way(self._server.url)

    def by_way(self, url: str) -> str:
        """A URL of the server, by way of this pooler."""
        return url.replace(f":{self._server.port}/", f":{self._port}/")

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        program = shutil.which("pgbouncer")
        if program is None:
            raise ChildFailed("pgbouncer", "is not installed; it comes with Debian's package pgbouncer")
        user = unprivileged_user()
        if user is not None:
            shutil.chown(self._directory, user)
        config = self._write(user)
        self.child = Child(
            "pgbouncer", [program, *(["-u", user] if user else []), str(config)], log=self._directory / "pgbouncer.log"
        )
        self.child.start()
        self.child.wait_until(self._answers, STARTUP)

    def stop(self) -> None:
        """Stop it: its clients lose their connections."""
        if self.child.pid is not None:
            self.child.kill()

    def _answers(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def _write(self, user: str | None) -> Path:
        password = self._server.password_file.read_text()
        users, config = self._directory / "users.txt", self._directory / "pgbouncer.ini"
        lines = {
            "listen_addr": LOOPBACK, "listen_port": self._port, "unix_socket_dir": "", "auth_type": "plain",
            "auth_file": users, "pool_mode": self._mode, "default_pool_size": self._size, "max_client_conn": 500,
        }  # fmt: skip
        of_server = f"[databases]\n* = host={LOOPBACK} port={self._server.port}\n[pgbouncer]\n"
        for path, text in (
            (users, f'"{SUPERUSER}" "{password}"\n'),
            (config, of_server + "".join(f"{name} = {value}\n" for name, value in lines.items())),
        ):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            if user is not None:
                shutil.chown(path, user)
        return config
