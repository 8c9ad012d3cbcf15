"""The common part of several Valkey servers that belong together: a Cluster, or a primary with Sentinels.

For tests and drills. All of them listen on loopback and share one password.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from unlost.ops.system.child import Child, ChildFailed
from unlost.ops.system.valkey import ValkeyServer

FORMED_WITHIN = 30.0
LOOK_EVERY = 0.02
NODE_TIMEOUT_MS = 1_500
"""After this silence of a primary, its replica takes over. The default of 15 s is long for a drill."""


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


def stop_nodes(nodes: list[ValkeyServer]) -> None:
    """Kill these servers."""
    for node in nodes:
        with contextlib.suppress(ChildFailed):
            node.thaw()
            node.kill()  # an orderly stop of a primary waits for its replica


def wait_until(what: str, reached: Callable[[], bool]) -> None:
    """Wait until the servers have reached this, or raise ``ChildFailed``."""
    deadline = time.monotonic() + FORMED_WITHIN
    while not reached():
        if time.monotonic() > deadline:
            raise ChildFailed("valkey", f"waited {FORMED_WITHIN:g} s in vain until {what}")
        time.sleep(LOOK_EVERY)
