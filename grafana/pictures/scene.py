"""The scene of the pictures: a system under load, and three drills; the last one is shown at its worst moment."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx

from grafana.pictures.queried import Board, boards
from grafana.prometheus import Prometheus, running_prometheus
from unlost.ops.faults.drills.catalogue import DRILLS
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.local_stage import LocalStage
from unlost.ops.faults.drills.local_staging import local_stage
from unlost.ops.faults.drills.marks import marks
from unlost.ops.faults.drills.stage import StageError

CALM = 40.0
AT_WORST = 20.0
FIRST, LAST = ("postgres-stopped", "listener-killed"), "redis-stopped"
REPLAYED_AFTER = "postgres-stopped"
TYPES = ("order", "order", "order", "refund", "refund", "invoice")
"""Event types. Failures of each type form a group of letters."""
BATCH, FAILING = 9, 8


def played(program: str, directory: Path) -> dict[str, Board]:
    """Play the scene, and query all dashboards at its end."""
    drill = replace(DRILLS[LAST], settings={"DRILL_SECONDS": "0.1"})  # slow enough that a killed owner holds events
    directory.chmod(0o711)  # if this user is root, PostgreSQL runs as another user
    with (
        local_stage(drill, directory / "system", 2, lambda _: None, console=True) as stage,
        running_prometheus(program, directory, stage.layout) as prometheus,
        load(stage.producer_url),
    ):
        return asyncio.run(_played(stage, prometheus))


async def _played(stage: LocalStage, prometheus: Prometheus) -> dict[str, Board]:
    began = time.time() + 10  # rates need some samples
    await asyncio.sleep(CALM)
    for name in FIRST:
        await _carried_out(DRILLS[name], stage)
        await asyncio.sleep(CALM / 2)
        if name == REPLAYED_AFTER:
            await _replayed(stage)
        await asyncio.sleep(CALM / 2)
    drill = DRILLS[LAST]
    async with marks(drill.name, stage.console) as left:
        await left.put("damaged")
        await drill.damage(stage)
        await asyncio.sleep(AT_WORST)
        answers = await asyncio.to_thread(boards, prometheus, began, time.time())
        await drill.heal(stage)
    return answers


async def _carried_out(drill: Drill, stage: LocalStage) -> None:
    async with marks(drill.name, stage.console) as left:
        await left.put("damaged")
        await drill.damage(stage)
        await drill.during(stage)
        await drill.heal(stage)
        await left.put("running")
        await asyncio.sleep(2 * stage.lease)


async def _replayed(stage: LocalStage) -> None:
    """Replay letters with a healed handler, so that they become rows."""
    if problems := await stage.replay():
        raise StageError("; ".join(problems))


@contextlib.contextmanager
def load(url: str, failing: int = FAILING) -> Iterator[None]:
    """Publish batches of events until the block ends. In some batches one event fails at every attempt."""
    ended = threading.Event()

    def publish() -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            for number in count():
                if ended.wait(0.1):
                    return
                kinds = ["fail" if number % 300 < failing else "", *[""] * (BATCH - 1)]
                kind = TYPES[number % len(TYPES)]
                lines = [
                    {"event_id": f"load-{number}-{i}", "type": kind, "payload": {"drill": behaviour}}
                    for i, behaviour in enumerate(kinds)
                ]
                client.post("/publish/batch", content="\n".join(map(json.dumps, lines))).raise_for_status()

    thread = threading.Thread(target=publish, name="load")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
