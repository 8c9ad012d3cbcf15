"""A drill as plain data: a story, the damage, its healing, and the bars (limits) for the verdict."""

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
"""No handler: events that arrive just after PostgreSQL has gone are claimed nevertheless."""


async def nothing(stage: Stage) -> None:
    """No damage by the drill itself: its events cause it."""


def pause(seconds: float) -> Act:
    """Make an act that only waits, so that the damage lasts."""

    async def wait(stage: Stage) -> None:  # noqa: ARG001
        await asyncio.sleep(seconds)

    return wait


@dataclass(frozen=True, slots=True)
class Bars:
    """Limits besides the law. ``None`` means reported, but not judged. All times are in seconds."""

    extra_runs: bool = False
    """Whether handlers may run more than once per event: only if an owner was killed or frozen."""
    letters: Literal["none", "some", "any"] = "none"
    progress: float | None = None
    recover: float | None = None
    pause: float | None = None
    """How long an event whose handler was already running may wait for its row."""
    takeover: float | None = None
    """Limit, beyond the lease, for taking over the last event of a lost owner. At least one must be taken over."""
    slower: float | None = None
    """How many times as long as before the damage the 99th percentile may be, from publishing to the row."""
    felt: bool = True
    """Whether some listener's health must have shown the damage. Damage without any effect proves nothing."""

    def stretched(self, factor: float) -> "Bars":
        """The same bars with all times multiplied."""
        times = {name: getattr(self, name) for name in ("progress", "recover", "pause", "takeover", "slower")}
        return replace(self, **{name: time and time * factor for name, time in times.items()})

    def held(self, seconds: float) -> "Bars":
        """The same bars for damage that lasts longer: takeovers may have to wait for its end, and leases may expire."""
        if not seconds:
            return self
        return replace(self, takeover=self.takeover and self.takeover + seconds, extra_runs=True)


@dataclass(frozen=True, slots=True)
class Poison:
    """Events that make the drill's handler fail in some way: one in ``every``, or only one if that is 0."""

    what: Literal["fail", "hang", "kill", "slow"]
    every: int = 0

    def is_in(self, number: int, events: int) -> bool:
        """Whether the event with this number is poisoned."""
        return number % self.every == 0 if self.every else number == events // 3


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. ``progress`` is measured from the damage, or from its healing if nothing can flow before."""

    name: str
    story: str
    damage: Act = nothing
    during: Act = field(default_factory=lambda: pause(4.0))
    heal: Act = nothing
    bars: Bars = Bars()
    progress_from: Literal["damage", "heal"] = "heal"
    begins_after: float = 1 / 3
    """The share of the stream that is published before the damage."""
    longer: float = 1.0
    """How many times longer than usual the stream is. It must still flow when damage that takes long is done."""
    until_healed: bool = False
    """Whether the stream ends soon after the healing. It is then so long that it never ends before."""
    poison: Poison | None = None
    handler: str = RECORD
    settings: Mapping[str, str] = field(default_factory=dict)
    redis: Literal["one", "cluster", "sentinels"] = "one"
    """Which servers keep the claims."""
    standby: Literal["", "ours", "patroni"] = ""
    """Whether PostgreSQL has a synchronous standby, and whether the drill promotes it or Patroni, which must be
    installed."""
    pooled: bool = False
    """Whether listeners reach PostgreSQL by way of a pgbouncer in transaction mode, which must be installed."""
    producers: int = 1
    """How many producers there are. Several share a journal in PostgreSQL, behind an HAProxy, which must be installed.
    Listeners must then declare no gap."""
    journal_nodes: bool = False
    """Whether the producer keeps its journal in JetStream, on three nodes. Listeners must then declare no gap."""
    journal_moves: bool = False
    """Whether the journal moves to another place. Listeners must then declare no gap."""
    wires: bool = False
    """Whether it needs a fault proxy on every wire."""
    fills_disk: bool = False
    """Whether it needs a dead-letter file that can run out of disk space."""
    few_connections: bool = False
    """Whether it needs a PostgreSQL whose connections can all be taken."""
    revives: bool = False
    """Whether listeners that end are restarted, as by a supervisor."""
    foreign: bool = False
    """Whether listeners read a source that cannot resume, instead of the producer. Letters that stops leave are then
    resolved by the listeners themselves."""
    feed: Literal["", "planned", "acknowledged"] = ""
    """The feed, described by a profile, that listeners read instead of the producer: one that ends connections by a
    plan, or one that wants acknowledgements."""
    broker: Literal[0, 1, 3] = 0
    """How many nodes the broker has that listeners read instead of the producer; 0: none."""
    keys: int = 0
    """How many keys the events have. Each key's events must run in order, whatever happens."""
    shards: bool = False
    """Whether the listeners are one of two shards. The other has its own PostgreSQL."""
    two_groups: bool = False
    """Whether a second group of listeners uses the same database; the audit counts its rows too."""
    upgrades: bool = False
    """Whether the system begins as an earlier version, with a console, and is upgraded."""
    on_compose: bool = True

    @property
    def is_portable(self) -> bool:
        """Whether a compose project can be the stage: the drill needs nothing that is set up before the start."""
        return self.on_compose and not (
            self.redis != "one"
            or self.standby
            or self.pooled
            or self.producers > 1
            or self.journal_nodes
            or self.wires
            or self.fills_disk
            or self.few_connections
            or self.revives
            or self.foreign
            or self.feed
            or self.broker
        )
