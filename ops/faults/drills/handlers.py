"""The handlers that drills use. Each run is recorded when it begins, by one append that survives a kill.

``DRILL_RUNS`` names the file; ``DRILL_SECONDS`` is the duration of a run. The field ``drill`` of a payload can make the
run slow, fail, hang, or kill its process. It has no such effect if ``DRILL_HEALED`` is set, as in a replay.
"""

import asyncio
import functools
import os
import signal
import time
from typing import Any

from unlost import Delivery
from unlost.ops.faults.drills.measure import Run

HANG_SECONDS = 3600.0
SLOW_SECONDS = 3.0


async def record(event: Delivery) -> None:
    """A handler that runs before the row is inserted."""
    kind = _kind(event)
    _write(kind, event)
    if kind == "fail":
        raise RuntimeError("the drill behaviour for a failure")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(HANG_SECONDS if kind == "hang" else SLOW_SECONDS if _behaviour(event) == "slow" else _seconds())


async def record_in_transaction(event: Delivery, connection: Any) -> None:
    """A handler in the transaction of the row. It inserts a second row, which shows how often it took effect."""
    await connection.execute("insert into drill_effects (event_id) values ($1)", event.event_id)
    await record(event)


async def another(event: Delivery) -> None:
    """A handler that a listener gets by mistake; it must never handle an event of the group."""
    _write("strange", event)


def _kind(event: Delivery) -> str:
    if os.environ.get("DRILL_HEALED"):
        return "replay"
    behaviour = _behaviour(event)
    return behaviour if behaviour in ("fail", "hang", "kill") else "run"


def _behaviour(event: Delivery) -> str | None:
    return event.payload.get("drill") if isinstance(event.payload, dict) else None


def _write(kind: str, event: Delivery) -> None:
    run = Run(kind, time.time(), event.epoch, event.attempt, os.getpid(), event.event_id)
    os.write(_file(os.environ.get("DRILL_RUNS", "drill-runs")), run.line())


@functools.cache
def _file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


@functools.cache
def _seconds() -> float:
    return float(os.environ.get("DRILL_SECONDS", "0.05"))
