"""The engine: servers, claims, store and pipeline of one start of a process, built from settings.

Listeners and replays run the same engine. Its token names this start of the process, never only the host.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Sequence

from unlost.listener.app.connection_settings import ConnectionSettings
from unlost.listener.app.pausing import Pausing
from unlost.listener.app.wiring import Connect, connect_servers
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Misconfigured, NotPermitted, Permanent, Transient, class_of
from unlost.listener.core.event import Event
from unlost.listener.core.facts import AttemptFailed, Facts, RedisForged
from unlost.listener.core.retry import Work, attempts
from unlost.listener.core.shard import Shard
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.pipeline import Pipeline
from unlost.listener.ports.dead_letters import DeadLetters
from unlost.listener.routing.finding import find_handler
from unlost.listener.routing.handler import AppHandler
from unlost.ops.kit.telemetry.mask import masked

BREAKER_FAILURES = 2  # one failure alone does not mean that a server is gone
BREAKER_RESET_SECONDS = 1.0
FORGET_EVERY_SECONDS = 600.0
FORGET_BATCH = 5_000
MAKE_ROOM_EVERY_SECONDS = 1.0
CLOCKS = Clocks(time.time, time.monotonic)
"""The clocks of the machine."""


def random_name() -> str:
    """Return a name for one start of a process."""
    return secrets.token_hex(8)


def _handler_of(settings: ConnectionSettings, find: Callable[[str], Handler]) -> Handler | None:
    handler = find(settings.handler) if settings.handler else None
    if isinstance(handler, AppHandler):
        handler.require_fast(fast=settings.fast == "on")
    return handler


class Engine:
    """Everything except the source and the HTTP endpoint."""

    def __init__(
        self,
        settings: ConnectionSettings,
        sink: DeadLetters,
        facts: Facts,
        *,
        read_again: Callable[[], None],
        connect: Connect = connect_servers,
        clocks: Clocks = CLOCKS,
        name: Callable[[], str] = random_name,
        rng: Callable[[], float] = random.random,
        find: Callable[[str], Handler] = find_handler,
    ) -> None:
        self.token = f"{settings.instance_id}:{name()}"
        self.shard = Shard.of_group(settings.group)
        self._settings = settings
        self._facts = facts
        self._clocks = clocks
        self.handler = _handler_of(settings, find)
        self._servers = servers = connect(settings, self.token)
        if self.handler is not None:
            servers.membership.handler = settings.declared_with(self.handler.keys, self.handler.after_letters)
        self.store = servers.store
        self.cursors = servers.cursors
        self.gaps = servers.gaps
        self.stored_by_peers = servers.stored_by_peers
        self.letters = servers.letters
        self.codec = servers.codec
        self.effects = servers.effects
        self.notifications = servers.notifications
        self.channel = servers.channel
        self.recorder = EffectRecorder(servers.effects, settings.effect_targets(), facts)
        self.store_breaker = self._breaker("postgres")
        self.redis_breaker = self._breaker("redis")
        self.manager = ClaimManager(
            membership=servers.membership, postgres=servers.postgres, redis=servers.redis,
            redis_breaker=self.redis_breaker, store_breaker=self.store_breaker, lease_seconds=settings.lease,
            lost=self._lost, read_again=read_again, facts=facts, clock=clocks.monotonic,
        )  # fmt: skip
        self.pipeline = Pipeline(
            manager=self.manager, store=self.store, register=servers.register, store_breaker=self.store_breaker,
            sink=sink, healing=servers.healing, effects=self.recorder, who=settings.instance_id, handler=self.handler,
            policy=settings.policy(), clocks=clocks,
            facts=facts, rng=rng, refuse=None if servers.codec is None else servers.codec.check,
        )  # fmt: skip
        servers.membership.routes = tuple(self.pipeline.work.pausing)
        self.pausing = Pausing(
            servers.pauses, instance=settings.instance_id, routes=lambda: tuple(self.pipeline.work.pausing),
            hold=self.pipeline.work.hold, facts=facts,
        )  # fmt: skip

    def _lost(self, claim_ids: Sequence[str]) -> None:
        self.pipeline.lose(claim_ids)

    @property
    def same_handler(self) -> bool:
        """Whether no live peer has another handler, as far as is known."""
        return self.manager.agreement.reached or not self.manager.leases.places

    def database_away(self) -> str:
        """Return why events that are read now could not be stored soon; empty if they could."""
        if self.store_breaker.is_open:
            return "PostgreSQL is away"
        return "PostgreSQL takes no rows" if self.pipeline.store_watch.error else ""

    def routes_paused(self) -> str:
        """Return which routes of the handler pause, and why, or an empty text."""
        paused = {**self.paused_routes(), **self.pausing.routes}
        return "; ".join(f"{route} pauses: {why}" for route, why in paused.items())

    def paused_routes(self) -> dict[str, str]:
        """Return which routes pause, and why. A handler's text may quote a payload."""
        redactor = self._settings.redactor()
        return {route: redactor.unknown(masked(why)) for route, why in self.pipeline.work.paused.items()}

    def route_of(self, event: Event) -> str | None:
        """Return the name of the route that takes an event; None if none does."""
        route = self.handler.policy_of(event).route if isinstance(self.handler, AppHandler) else ""
        return None if self.handler is None or route in ("", self.handler.name) else route

    def oldest_age(self) -> float:
        """Return the age of the oldest event in memory. A listener that finishes nothing shows here."""
        stamps = (flight.received_clock for flight in self.pipeline.intake.inside())
        oldest = min(stamps, default=None)
        return 0.0 if oldest is None else self._clocks.monotonic() - oldest

    def _breaker(self, name: str) -> Breaker:
        return Breaker(name, fail_max=BREAKER_FAILURES, reset_seconds=BREAKER_RESET_SECONDS, facts=self._facts)

    async def prepare(self) -> None:
        """Make the handler ready, bring PostgreSQL's tables up to date, look for Redis, and join the membership.

        Without PostgreSQL this raises ``Transient``. Without Redis the start goes on, degraded.
        """
        settings = self._settings
        if (handler := self.handler) is not None:
            await self._reach(f"HANDLER={handler.name}", settings.startup_attempts, lambda _: handler.open())
        await self._reach("PostgreSQL", settings.database_attempts, lambda _: self._servers.migrate())
        with contextlib.suppress(Transient):
            await self._reach("Redis", settings.startup_attempts, self._look_for_redis)
        await self._reach("PostgreSQL", settings.database_attempts, lambda _: self.manager.join())
        await self._reach("PostgreSQL", settings.database_attempts, lambda _: self.pausing.look())
        await self._reach("PostgreSQL", settings.database_attempts, lambda _: self.pipeline.key_watch.look())

    async def _reach(self, what: str, count: int, work: Work) -> None:
        def note(error: Transient, retried: bool) -> None:
            self._facts(AttemptFailed("start", "transient", f"{what}: {error}", retried, 0, None))

        async def permitted(number: int) -> None:
            try:
                await work(number)
            except NotPermitted as error:  # later it is an outage; now somebody looks on
                raise Misconfigured(str(error)) from error

        await attempts(permitted, count=count, delay=self._settings.startup_delay, failed=note)

    async def _look_for_redis(self, _: int) -> None:
        try:
            await self._servers.redis.place()
        except Permanent as error:  # a Redis that refuses us counts as away
            self._facts(AttemptFailed("start", "permanent", f"Redis: {error}", False, 0, None))

    async def run(self) -> None:
        """Claim, handle, store and settle until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.manager.run(), name="claim manager")
            tasks.create_task(self.pipeline.run(), name="pipeline")
            tasks.create_task(self._forget_old_claims(), name="forget old claims")
            tasks.create_task(self._make_room(), name="make room")
            tasks.create_task(self.pausing.run(), name="pauses")

    async def _forget_old_claims(self) -> None:
        """Delete claims from PostgreSQL after the dedup window. In Redis they expire by themselves."""
        while True:
            await asyncio.sleep(FORGET_EVERY_SECONDS)
            with contextlib.suppress(Transient, Permanent):
                forgotten = FORGET_BATCH
                while forgotten == FORGET_BATCH:
                    forgotten = await self._servers.postgres.prune(batch=FORGET_BATCH)

    async def _make_room(self) -> None:
        """Remove old settled events from Redis while its memory is nearly used up. Report records that were forged."""
        known = 0
        while True:
            await asyncio.sleep(MAKE_ROOM_EVERY_SECONDS)
            with contextlib.suppress(Transient, Permanent):  # the claim manager reports what Redis refuses
                while await self._servers.redis.make_room():
                    pass
            if (forged := self._servers.redis.forged) > known:
                self._facts(RedisForged(forged - known))
                known = forged

    @property
    def remembers_seconds(self) -> float:
        """For how long Redis remembers an event that is settled now."""
        return self._servers.redis.remembers_seconds

    async def leave(self) -> None:
        """Remove this process from the membership, so that peers need not wait until its row expires."""
        try:
            await self.manager.leave()
        except (Transient, Permanent) as error:
            self._facts(AttemptFailed("stop", class_of(error), f"PostgreSQL: {error}", False, 0, None))

    async def close(self) -> None:
        """Let the handler clean up, and close all connections."""
        try:
            if self.handler is not None:
                await self.handler.close()
        finally:
            await self._servers.close()
