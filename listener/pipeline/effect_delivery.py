"""Delivers effects: takes those that are ready, sends each, and records the outcome. At least once.

An effect is taken for longer than a delivery may take, so no lease is renewed. After a kill between the receiver's
answer and the record of it, the effect is delivered once more, under the same key.

Each host has a breaker, the one of routes. While a host pauses, one of its effects is tried at a time, and no failure
counts against an effect. After a last attempt, or a permanent failure, the effect becomes a dead letter.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.effects import DeliveryOutcome, Effect
from unlost.listener.core.errors import LONGEST_WAIT, Permanent, Transient
from unlost.listener.core.facts import (
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EffectHostPaused,
    EffectHostResumed,
    Facts,
)
from unlost.listener.pipeline.effect_letters import EffectLetters
from unlost.listener.pipeline.route_breaker import RouteBreaker
from unlost.listener.ports.effects import Channel, EffectRows

LOOK_EVERY_SECONDS = 2.0
COUNT_EVERY_SECONDS = 10.0
AGAIN_SECONDS = 1.0
RECORD_TRIES = 5
LEASE_MARGIN = 20.0
"""Beyond the time limit of a delivery: for recording its outcome."""
HOSTS_AT_ONCE = 4
"""So many hosts may be called at once, as if each used up its limit. Then one that hangs holds up no other."""
SLACK_SECONDS = 0.05
"""PostgreSQL's clock decides when an effect is ready, and ours when its host is tried: then it must be ready."""
FORGET_SECONDS = 60.0
"""A host that pauses and has nothing left to try is forgotten after this long: a peer delivered it."""


@dataclass(frozen=True, slots=True)
class EffectPolicy:
    """Defaults are those of the settings. ``concurrency``: deliveries to one host at once."""

    retry: Backoff = Backoff(attempts=12, first=5.0, longest=14_400.0)  # noqa: RUF009  frozen
    timeout: float = 10.0
    concurrency: int = 16

    @property
    def lease(self) -> float:
        """How long an effect is taken for."""
        return self.timeout + LEASE_MARGIN


class Host:
    """A receiver: its breaker, how many deliveries run, and until when it asked not to be called."""

    __slots__ = ("at_work", "breaker", "not_before")

    def __init__(self, breaker: RouteBreaker) -> None:
        self.breaker = breaker
        self.at_work = 0
        self.not_before = float("-inf")

    def has_no_room(self, limit: int, clock: Callable[[], float]) -> bool:
        """Return whether nothing more may be sent to it now."""
        return clock() < self.not_before or self.at_work >= self.breaker.at_once(limit, clock)

    def is_idle(self, now: float) -> bool:
        """Return whether nothing is known about it."""
        unused = self.breaker.is_open and now > self.breaker.probe_at + FORGET_SECONDS
        return not self.at_work and (self.breaker.is_calm or unused) and now >= self.not_before


class EffectDelivery:
    """Delivers until stopped or cancelled; looks at once after each ``again``."""

    def __init__(
        self,
        *,
        rows: EffectRows,
        channel: Channel,
        letters: EffectLetters,
        policy: EffectPolicy,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._rows = rows
        self._channel = channel
        self._letters = letters
        self._policy = policy
        self._clock = clocks.monotonic
        self._facts = facts
        self._rng = rng
        self._hosts: dict[str, Host] = {}
        self._at_work: set[asyncio.Task[None]] = set()
        self._requested = asyncio.Event()
        self._stopping = False
        self._count_at = float("-inf")
        self.waiting, self.oldest_seconds = 0, 0.0
        """How many effects wait, and for how long the oldest has; seen lately."""

    @property
    def paused(self) -> dict[str, str]:
        """The hosts that pause, each with the error of its deliveries."""
        return {name: host.breaker.why for name, host in self._hosts.items() if host.breaker.is_open}

    @property
    def done(self) -> bool:
        """Whether nothing is being delivered, and nothing was ready at the last look."""
        return not self._at_work and not self._requested.is_set()

    def again(self) -> None:
        """Look at once: there are new effects."""
        self._requested.set()

    async def run(self) -> None:
        """Deliver until stopped or cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                self._requested.clear()
                try:
                    taken = await self._take()
                    await self._count()
                except (Transient, Permanent):
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
                for effect in taken:
                    task = tasks.create_task(self._deliver(effect), name=f"effect {effect.key}")
                    self._at_work.add(task)
                    task.add_done_callback(self._ended)
                if not taken:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._until_next_look()):
                            await self._requested.wait()

    async def finish(self) -> None:
        """Take nothing more, and wait until what is on its way has ended."""
        self._stopping = True
        self._requested.set()
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=self._policy.timeout)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        self._requested.set()

    # -- taking -----------------------------------------------------------------------------------

    async def _take(self) -> Sequence[Effect]:
        """Take effects of hosts that have room, and one of each host that pauses and may be tried."""
        now, limit = self._clock(), self._policy.concurrency
        self._hosts = {name: host for name, host in self._hosts.items() if self._is_known(name, host, now)}
        taken: list[Effect] = []
        for name in [name for name, host in self._hosts.items() if host.breaker.is_open]:
            if not self._hosts[name].has_no_room(limit, self._clock):
                taken += self._begun(await self._rows.take(1, lease=self._policy.lease, skip=(), only=name))
        room = min(limit, limit * HOSTS_AT_ONCE - len(self._at_work) - len(taken))
        if room > 0:
            closed = [
                name
                for name, host in self._hosts.items()
                if host.breaker.is_open or host.has_no_room(limit, self._clock)
            ]
            taken += self._begun(await self._rows.take(room, lease=self._policy.lease, skip=closed))
        return taken

    def _begun(self, effects: Sequence[Effect]) -> Sequence[Effect]:
        for one in effects:
            self._host(one.host).at_work += 1
        return effects

    def _is_known(self, name: str, host: Host, now: float) -> bool:
        if not host.is_idle(now):
            return True
        if host.breaker.is_open:
            self._facts(EffectHostResumed(name, now - host.breaker.opened_at))
        return False

    def _host(self, name: str) -> Host:
        return self._hosts.setdefault(name, Host(RouteBreaker(self._policy.retry, self._rng)))

    def _until_next_look(self) -> float:
        now = self._clock()
        probes = [one.breaker.probe_at - now for one in self._hosts.values() if one.breaker.is_open]
        return min([LOOK_EVERY_SECONDS, *(seconds for seconds in probes if seconds > 0)])

    async def _count(self) -> None:
        if self._clock() >= self._count_at:
            self._count_at = self._clock() + COUNT_EVERY_SECONDS
            self.waiting, self.oldest_seconds = await self._rows.waiting()

    # -- one effect -------------------------------------------------------------------------------

    async def _deliver(self, effect: Effect) -> None:
        host, began = self._host(effect.host), self._clock()
        try:
            outcome = await self._channel.send(effect)
            wait, counts = self._judged(effect, host, outcome, began)
            if outcome.what == "delivered":
                await self._surely(lambda: self._rows.delivered(effect))
                self._facts(EffectDelivered(effect.event_id, effect.key, self._clock() - began))
            elif wait is None:
                await self._bury(effect, outcome)
            else:
                await self._surely(lambda: self._rows.failed(effect, outcome.why, wait=wait, counts=counts))
                self._facts(EffectFailed(effect.event_id, effect.key, effect.host, outcome.why, counts))
        finally:
            host.at_work -= 1

    def _judged(self, effect: Effect, host: Host, outcome: DeliveryOutcome, began: float) -> tuple[float | None, bool]:
        """Return after how many seconds the effect is tried again, None for never, and whether the attempt counts."""
        now = self._clock()
        if outcome.what != "again":
            if outcome.what == "delivered" and host.breaker.succeeded(now):
                self._facts(EffectHostResumed(effect.host, now - host.breaker.opened_at))
            return None, True
        after = min(outcome.after, LONGEST_WAIT)
        host.not_before = max(host.not_before, now + after) if after else host.not_before
        paused = host.breaker.is_open
        counts = host.breaker.failed(
            f"{effect.number}:{effect.event_id}", outcome.alike, outcome.why, first=not effect.attempts, began=began,
            now=now,
        )  # fmt: skip
        if host.breaker.is_open and not paused:
            self._facts(EffectHostPaused(effect.host, outcome.why))
        if not counts:
            return max(after, host.breaker.probe_at - now - SLACK_SECONDS, 0.0), False
        number = effect.attempts + 1
        if number >= self._policy.retry.attempts:
            return None, True
        return max(after, self._policy.retry.pause(number, self._rng())), True

    async def _bury(self, effect: Effect, outcome: DeliveryOutcome) -> None:
        """Write the letter first. A kill after that delivers the effect again, and a replay finds that out."""
        try:
            letter_id = await self._letters.write(effect, outcome)
        except (Transient, Permanent):  # the file takes no letters: the effect waits
            await self._surely(lambda: self._rows.failed(effect, outcome.why, wait=LEASE_MARGIN, counts=False))
            return
        await self._surely(lambda: self._rows.buried(effect, letter_id, outcome.why))
        error_class = "permanent" if outcome.what == "never" else "transient"
        self._facts(EffectBuried(effect.event_id, effect.key, error_class, outcome.why))

    async def _surely(self, record: Callable[[], Awaitable[None]]) -> None:
        """Record an outcome. If PostgreSQL stays away, the lease ends, and the effect is taken once more."""
        for number in range(1, RECORD_TRIES + 1):
            try:
                return await record()
            except (Transient, Permanent):
                if number < RECORD_TRIES:
                    await asyncio.sleep(AGAIN_SECONDS)
        return None
