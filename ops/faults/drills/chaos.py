"""Chaos: random faults (``Fault``), several at once, from a seed. The same seed and settings give the same plan.

Each fault has a target, and a target has only one fault at a time. All are healed before the time is up.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unlost.ops.faults.drills.drill import IN_TRANSACTION, RECORD, Act, Bars, Drill
from unlost.ops.faults.drills.stage import Stage, StageError

FIRST_FAULT = 1.0
SHORTEST, LONGEST = 0.3, 8.0
GAP = 1.2
"""Mean seconds between two faults. Since a fault lasts some seconds, several overlap."""
WIRES = ("redis", "postgres", "source")
SERVERS = {
    "redis": ("stop", "kill", "freeze", "empty"),
    "postgres": ("stop", "kill", "freeze"),
    "producer": ("stop", "kill", "freeze"),
}
LISTENER_FAULTS = ("stop", "kill", "freeze")
WIRE_FAULTS = ("cut", "slow", "reset", "silent", "half")
TOXICS: dict[str, tuple[str, dict[str, int | float]]] = {
    "slow": ("latency", {"latency": 150, "jitter": 100}),
    "reset": ("reset_peer", {"timeout": 0}),
    "silent": ("timeout", {"timeout": 0}),
    "half": ("slicer", {"average_size": 3, "size_variation": 0, "delay": 60_000_000}),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what it does, to which target, from when to when (in seconds from the beginning)."""

    at: float
    until: float
    what: str
    target: str

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.what:<7} {self.target:<12} for {self.until - self.at:.1f} s"


def plan(seed: int, seconds: float, listeners: Sequence[str]) -> list[Fault]:
    """Plan the faults, in order of time."""
    rng = random.Random(seed)  # noqa: S311  a reproducible plan, no secret
    choices = [(what, part) for part, kinds in SERVERS.items() for what in kinds]
    choices += [(what, listener) for listener in listeners for what in LISTENER_FAULTS]
    choices += [(what, f"{listener}-{wire}") for listener in listeners for wire in WIRES for what in WIRE_FAULTS]
    free_at: dict[str, float] = {}
    faults = []
    at = FIRST_FAULT
    while at < seconds - SHORTEST:
        what, target = rng.choice(choices)
        until = min(at + rng.uniform(SHORTEST, LONGEST), seconds)
        if free_at.get(target, 0.0) <= at:
            faults.append(Fault(round(at, 3), round(until, 3), what, target))
            free_at[target] = until + SHORTEST
        at += rng.expovariate(1 / GAP)
    return faults


def chaos(
    seed: int, seconds: float, listeners: Sequence[str], say: Callable[[str], None], *, shards: bool = False
) -> Drill:
    """The drill for this seed. Even seeds run handlers before the rows, odd seeds in the rows' transactions.

    ``shards``: there is a second shard, which suffers with the first from Redis and the producer alone.
    """
    faults = plan(seed, seconds, listeners)
    return Drill(
        "chaos",
        f"Everything at random for {seconds:g} s: {len(faults)} faults, seed {seed}.",
        during=carry_out(faults, seconds, say),
        heal=_heal_everything,
        bars=Bars(letters="any", extra_runs=True),
        begins_after=1 / 30,
        until_healed=True,
        handler=IN_TRANSACTION if seed % 2 else RECORD,
        settings={"handle_timeout": "5"},
        wires=True,
        shards=shards,
        on_compose=False,
    )


def carry_out(faults: Sequence[Fault], seconds: float, say: Callable[[str], None]) -> Act:
    """Cause each fault at its time. If a target is not healed in time, its next fault comes later."""

    async def during(stage: Stage) -> None:
        started = time.monotonic()
        targets = {fault.target: asyncio.Lock() for fault in faults}
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                tasks.create_task(_one(stage, fault, started, targets[fault.target], say), name=str(fault))
        await _until(started + seconds)

    return during


async def _one(stage: Stage, fault: Fault, started: float, target: asyncio.Lock, say: Callable[[str], None]) -> None:
    """Cause and heal one fault. On a busy machine it waits until the target is healed of the previous one."""
    await _until(started + fault.at)
    async with target:
        say(str(fault))
        await _strike(stage, fault)
        await _until(started + fault.until)
        await _heal(stage, fault)


async def _strike(stage: Stage, fault: Fault) -> None:
    if "-" in fault.target:
        listener, wire = fault.target.rsplit("-", 1)
        if fault.what == "cut":
            await stage.wires.cut(listener, wire)
        else:
            kind, attributes = TOXICS[fault.what]
            await stage.wires.add(listener, wire, kind, **attributes)
        return
    match fault.what:
        case "stop":
            await stage.stop(fault.target)
        case "kill" | "empty":
            await stage.kill(fault.target)
        case "freeze":
            await stage.freeze(fault.target)
        case _:
            raise StageError(f"chaos cannot {fault.what} {fault.target}")


async def _heal(stage: Stage, fault: Fault) -> None:
    if "-" in fault.target:
        await stage.wires.repair(*fault.target.rsplit("-", 1))
    elif fault.what == "freeze":
        await stage.thaw(fault.target)
    else:
        await stage.start(fault.target, empty=fault.what == "empty")


async def _heal_everything(stage: Stage) -> None:
    for part in ("redis", "postgres", "producer", *stage.listeners):
        await stage.thaw(part)
        await stage.start(part)
    for listener in stage.listeners:
        for wire in WIRES:
            await stage.wires.repair(listener, wire)


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
