"""What a drill is: a story, the damage and its healing, and the bars that the verdict goes by. Plain data."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from unlost.ops.faults.drills.stage import Stage

Act = Callable[[Stage], Awaitable[None]]
RECORD = "unlost.ops.faults.drills.handlers:record"
IN_TRANSACTION = "unlost.ops.faults.drills.handlers:record_in_transaction"
ANOTHER = "unlost.ops.faults.drills.handlers:another"
NONE = ""
"""No handler: what arrives while PostgreSQL has just gone is claimed all the same, and buried."""


async def nothing(stage: Stage) -> None:
    """No damage of our own: the events carry it."""


def pause(seconds: float) -> Act:
    """An act that lets the damage last."""

    async def wait(stage: Stage) -> None:  # noqa: ARG001
        await asyncio.sleep(seconds)

    return wait


@dataclass(frozen=True, slots=True)
class Bars:
    """What must hold beside the law. ``None`` means: reported, not judged. All times are seconds."""

    extra_runs: bool = False
    """Whether handlers may run more than once for one event: only where an owner was killed or frozen."""
    letters: Literal["none", "some", "any"] = "none"
    progress: float | None = None
    recover: float | None = None
    pause: float | None = None
    """How long a handler that already ran may have to wait for its row."""
    takeover: float | None = None
    """Beyond the lease: until the last event of a lost owner is taken over. At least one must be."""
    felt: bool = True
    """Whether some listener's health must have shown the damage; a damage that nobody feels proves nothing."""

    def stretched(self, factor: float) -> "Bars":
        """The same with so many times the time."""
        times = {name: getattr(self, name) for name in ("progress", "recover", "pause", "takeover")}
        return replace(self, **{name: time and time * factor for name, time in times.items()})

    def held(self, seconds: float) -> "Bars":
        """The same for a damage that lasts longer: takeovers may have to wait for its end, and leases run out."""
        if not seconds:
            return self
        return replace(self, takeover=self.takeover and self.takeover + seconds, extra_runs=True)


@dataclass(frozen=True, slots=True)
class Poison:
    """Events that ask the drill's handler for trouble: ``every`` so many, or just one where that is 0."""

    what: Literal["fail", "hang", "kill", "slow"]
    every: int = 0

    def is_in(self, number: int, events: int) -> bool:
        """Whether the event with this number is one."""
        return number % self.every == 0 if self.every else number == events // 3


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. The clock of ``progress`` starts at the damage, or at its healing where nothing can flow before."""

    name: str
    story: str
    damage: Act = nothing
    during: Act = field(default_factory=lambda: pause(4.0))
    heal: Act = nothing
    bars: Bars = Bars()
    progress_from: Literal["damage", "heal"] = "heal"
    begins_after: float = 1 / 3
    """The part of the stream that is published before the damage."""
    poison: Poison | None = None
    handler: str = RECORD
    settings: Mapping[str, str] = field(default_factory=dict)
    wires: bool = False
    """Whether it needs a fault proxy on every wire."""
    fills_disk: bool = False
    """Whether it needs a dead-letter file that can run out of room."""
    few_connections: bool = False
    """Whether it needs a PostgreSQL whose connections can all be taken."""
    revives: bool = False
    """Whether listeners that end are started again, as a supervisor would."""
    foreign: bool = False
    """Whether listeners read a source that cannot resume, instead of the producer; what stops leave heals by itself."""
    two_groups: bool = False
    """Whether a second group of listeners works on the same database; the audit counts its rows too."""
    on_compose: bool = True

    @property
    def is_portable(self) -> bool:
        """Whether a compose project can be the stage: nothing is needed that is set up before the start."""
        return self.on_compose and not (
            self.wires or self.fills_disk or self.few_connections or self.revives or self.foreign
        )
