"""The system of ``unlost up --ha``: each server and each process has another that takes its place."""

import threading
from collections.abc import Callable
from pathlib import Path

from unlost.ops.system.balancer import haproxy
from unlost.ops.system.installed import Origin
from unlost.ops.system.layout import Layout
from unlost.ops.system.postgres_pair import PostgresPair
from unlost.ops.system.redis_sentinels import ValkeyWithSentinels
from unlost.ops.system.reserved import Obstacle
from unlost.ops.system.restarts import StartStep
from unlost.ops.system.system import System

LISTENERS_OF_HA = 4
PRODUCERS = 2
REPLICAS = 2
MARK = "ha"
"""The file that says that a directory's data was made with ``--ha``."""


def available_system(
    layout: Layout, say: Callable[[StartStep], None], stopping: threading.Event, postgres: Origin, redis: Origin
) -> System:
    """Three Valkeys with Sentinels, a PostgreSQL with a standby, producers that share a journal in it, listeners."""
    log = layout.log
    return System(
        layout,
        say,
        stopping,
        narrow=True,
        redis=ValkeyWithSentinels(
            layout.data / "valkeys", layout.ports.redis, replicas=REPLICAS, log=log("valkey"), group=layout.group,
            origin=redis,
        ),
        pair=PostgresPair(layout.data, layout.ports.postgres, log=log("postgres"), origin=postgres),
        balanced=PRODUCERS,
    )  # fmt: skip


def keep_apart(data: Path, *, ha: bool) -> None:
    """Refuse data of the other kind: its journal is elsewhere, so events that nobody has read would be left behind."""
    if ha and haproxy() is None:
        raise Obstacle("HAProxy is not installed, and --ha needs it; it comes with Debian's package haproxy")
    mark = data / MARK
    if not (data / "postgres" / "cluster").exists():
        if ha:
            mark.touch()
        else:
            mark.unlink(missing_ok=True)
    elif mark.exists() != ha:
        made = "with" if mark.exists() else "without"
        raise Obstacle(f"the data in {data} was made {made} --ha; choose another directory with --data")
