"""Six Valkey servers that form a Cluster, on loopback. For tests and drills."""

import contextlib
import secrets
from pathlib import Path
from typing import Any

import redis

from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.redis_topologies import NODE_TIMEOUT_MS, stop_nodes, wait_until
from unlost.ops.system.valkey import ValkeyServer

SLOTS = 16_384


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
        wait_until("every node knows all slots", lambda: all(map(self._is_well, self.nodes)))
        for i, node in enumerate(self.nodes[self._primaries :]):
            of = self.ask(self.nodes[i], "CLUSTER", "MYID").decode()
            wait_until("a replica knows its primary", lambda node=node, of=of: self._replicates(node, of))  # type: ignore[misc]
        wait_until("every replica is linked", lambda: all(map(self._is_linked, self.nodes[self._primaries :])))

    def stop(self) -> None:
        """Stop all nodes."""
        stop_nodes(self.nodes)

    def primary(self) -> ValkeyServer:
        """Return a primary that keeps slots now."""
        return self.primaries()[0]

    def primaries(self) -> list[ValkeyServer]:
        """Return all of them."""
        return [node for node in self.nodes if self._role(node) == b"master"]

    def await_replica(self) -> None:
        """See ``RedisTopology``."""
        wait_until("a linked replica", lambda: self._is_linked(self.replica_of(self.primary())))

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
        wait_until("the replica is the primary", lambda: self._role(replica) == b"master")

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
