"""Chaos: random faults ("blows"), several at once, from a seed. The same seed and settings give the same plan.

Each blow has a target, and a target has only one blow at a time. All blows are healed before the time is up.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unlost.ops.faults.drills.drill import IN_TRANSACTION, RECORD, Act, Bars, Drill
from unlost.ops.faults.drills.stage import Stage, StageError

FIRST_BLOW = 1.0
SHORTEST, LONGEST = 0.3, 8.0
GAP = 1.2
"""Mean seconds between two blows. Since a blow lasts some seconds, several overlap."""
WIRES = ("redis", "postgres", "source")
SERVERS = {
    "redis": ("stop", "kill", "freeze", "empty"),
    "postgres": ("stop", "kill", "freeze"),
    "producer": ("stop", "kill", "freeze"),
}
LISTENER_BLOWS = ("stop", "kill", "freeze")
WIRE_BLOWS = ("cut", "slow", "reset", "silent", "half")
TOXICS: dict[str, tuple[str, dict[str, int | float]]] = {
    "slow": ("latency", {"latency": 150, "jitter": 100}),
    "reset": ("reset_peer", {"timeout": 0}),
    "silent": ("timeout", {"timeout": 0}),
    "half": ("slicer", {"average_size": 3, "size_variation": 0, "delay": 60_000_000}),
}


@dataclass(frozen=True, slots=True)
class Blow:
    """One blow: what it does, to which target, from when to when (in seconds from the beginning)."""

    at: float
    until: float
    what: str
    target: str

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.what:<7} {self.target:<12} for {self.until - self.at:.1f} s"


def plan(seed: int, seconds: float, listeners: Sequence[str]) -> list[Blow]:
    """Plan the blows, in order of time."""
    dice = random.Random(seed)  # noqa: S311  a reproducible plan, no secret
    choices = [(what, part) for part, blows in SERVERS.items() for what in blows]
    choices += [(what, listener) for listener in listeners for what in LISTENER_BLOWS]
    choices += [(what, f"{listener}-{wire}") for listener in listeners for wire in WIRES for what in WIRE_BLOWS]
    free_at: dict[str, float] = {}
    blows = []
    at = FIRST_BLOW
    while at < seconds - SHORTEST:
        what, target = dice.choice(choices)
        until = min(at + dice.uniform(SHORTEST, LONGEST), seconds)
        if free_at.get(target, 0.0) <= at:
            blows.append(Blow(round(at, 3), round(until, 3), what, target))
            free_at[target] = until + SHORTEST
        at += dice.expovariate(1 / GAP)
    return blows


def chaos(seed: int, seconds: float, listeners: Sequence[str], say: Callable[[str], None]) -> Drill:
    """The drill for this seed. Even seeds run handlers before the rows, odd seeds in the rows' transactions."""
    blows = plan(seed, seconds, listeners)
    return Drill(
        "chaos",
        f"Everything at random for {seconds:g} s: {len(blows)} blows, seed {seed}.",
        during=carry_out(blows, seconds, say),
        heal=_heal_everything,
        bars=Bars(letters="any", extra_runs=True),
        begins_after=1 / 30,
        handler=IN_TRANSACTION if seed % 2 else RECORD,
        settings={"handle_timeout": "5"},
        wires=True,
        on_compose=False,
    )


def carry_out(blows: Sequence[Blow], seconds: float, say: Callable[[str], None]) -> Act:
    """Carry out each blow at its time. If a target is not healed in time, its next blow comes later."""

    async def during(stage: Stage) -> None:
        started = time.monotonic()
        targets = {blow.target: asyncio.Lock() for blow in blows}
        async with asyncio.TaskGroup() as tasks:
            for blow in blows:
                tasks.create_task(_one(stage, blow, started, targets[blow.target], say), name=str(blow))
        await _until(started + seconds)

    return during


async def _one(stage: Stage, blow: Blow, started: float, target: asyncio.Lock, say: Callable[[str], None]) -> None:
    """Carry out and heal one blow. On a busy machine it waits until the target is healed of its previous blow."""
    await _until(started + blow.at)
    async with target:
        say(str(blow))
        await _strike(stage, blow)
        await _until(started + blow.until)
        await _heal(stage, blow)


async def _strike(stage: Stage, blow: Blow) -> None:
    if "-" in blow.target:
        listener, wire = blow.target.rsplit("-", 1)
        if blow.what == "cut":
            await stage.wires.cut(listener, wire)
        else:
            kind, attributes = TOXICS[blow.what]
            await stage.wires.add(listener, wire, kind, **attributes)
        return
    match blow.what:
        case "stop":
            await stage.stop(blow.target)
        case "kill" | "empty":
            await stage.kill(blow.target)
        case "freeze":
            await stage.freeze(blow.target)
        case _:
            raise StageError(f"chaos cannot {blow.what} {blow.target}")


async def _heal(stage: Stage, blow: Blow) -> None:
    if "-" in blow.target:
        await stage.wires.repair(*blow.target.rsplit("-", 1))
    elif blow.what == "freeze":
        await stage.thaw(blow.target)
    else:
        await stage.start(blow.target, empty=blow.what == "empty")


async def _heal_everything(stage: Stage) -> None:
    for part in ("redis", "postgres", "producer", *stage.listeners):
        await stage.thaw(part)
        await stage.start(part)
    for listener in stage.listeners:
        for wire in WIRES:
            await stage.wires.repair(listener, wire)


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
