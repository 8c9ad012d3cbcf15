"""The engine: servers, claims, store and pipeline of one start of a process, built from settings.

Listeners and replays run the same engine. Its token names this start of the process, never only the host.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable

from unlost.listener.app.settings import ConnectionSettings
from unlost.listener.app.wiring import Connect, connect_servers
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient, class_of
from unlost.listener.core.facts import AttemptFailed, Facts
from unlost.listener.core.retry import Work, attempts
from unlost.listener.pipeline.handlers import find_handler
from unlost.listener.pipeline.pipeline import Pipeline
from unlost.listener.ports.dead_letters import DeadLetters

BREAKER_FAILURES = 2  # one failure alone does not mean that a server is gone
BREAKER_RESET_SECONDS = 1.0
FORGET_EVERY_SECONDS = 600.0
FORGET_BATCH = 5_000
CLOCKS = Clocks(time.time, time.monotonic)
"""The clocks of the machine."""


def random_name() -> str:
    """Return a name for one start of a process."""
    return secrets.token_hex(8)


class Engine:
    """Everything except the source and the HTTP endpoint."""

    def __init__(
        self,
        settings: ConnectionSettings,
        sink: DeadLetters,
        facts: Facts,
        *,
        connect: Connect = connect_servers,
        clocks: Clocks = CLOCKS,
        name: Callable[[], str] = random_name,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self.token = f"{settings.instance_id}:{name()}"
        self._settings = settings
        self._facts = facts
        handler = find_handler(settings.handler) if settings.handler else None
        self._servers = servers = connect(settings, self.token)
        self.store = servers.store
        self.cursors = servers.cursors
        self.store_breaker = self._breaker("postgres")
        self.redis_breaker = self._breaker("redis")
        self.manager = ClaimManager(
            membership=servers.membership, postgres=servers.postgres, redis=servers.redis,
            redis_breaker=self.redis_breaker, store_breaker=self.store_breaker, lease_seconds=settings.lease,
            facts=facts, clock=clocks.monotonic,
        )  # fmt: skip
        self.pipeline = Pipeline(
            manager=self.manager, store=self.store, register=servers.register, store_breaker=self.store_breaker,
            sink=sink, who=settings.instance_id, handler=handler, policy=settings.policy(), clocks=clocks,
            facts=facts, dice=dice,
        )  # fmt: skip

    def _breaker(self, name: str) -> Breaker:
        return Breaker(name, fail_max=BREAKER_FAILURES, reset_seconds=BREAKER_RESET_SECONDS, facts=self._facts)

    async def prepare(self) -> None:
        """Bring PostgreSQL's tables up to date, look for Redis, and join the membership.

        Without PostgreSQL this raises ``Transient``. Without Redis the start goes on, degraded.
        """
        settings = self._settings
        await self._reach("PostgreSQL", settings.database_attempts, lambda _: self._servers.migrate())
        with contextlib.suppress(Transient):
            await self._reach("Redis", settings.startup_attempts, self._look_for_redis)
        await self._reach("PostgreSQL", settings.database_attempts, lambda _: self.manager.join())

    async def _reach(self, what: str, count: int, work: Work) -> None:
        def note(error: Transient, retried: bool) -> None:
            self._facts(AttemptFailed("start", "transient", f"{what}: {error}", retried, 0, None))

        await attempts(work, count=count, delay=self._settings.startup_delay, failed=note)

    async def _look_for_redis(self, _: int) -> None:
        try:
            await self._servers.redis.place()
        except Permanent as error:  # a Redis that refuses us is as good as none
            self._facts(AttemptFailed("start", "permanent", f"Redis: {error}", False, 0, None))

    async def run(self) -> None:
        """Claim, handle, store and settle until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.manager.run(), name="claim manager")
            tasks.create_task(self.pipeline.run(), name="pipeline")
            tasks.create_task(self._forget_old_claims(), name="forget old claims")

    async def _forget_old_claims(self) -> None:
        """Delete claims from PostgreSQL after the dedup window. In Redis they expire by themselves."""
        while True:
            await asyncio.sleep(FORGET_EVERY_SECONDS)
            with contextlib.suppress(Transient, Permanent):
                forgotten = FORGET_BATCH
                while forgotten == FORGET_BATCH:
                    forgotten = await self._servers.postgres.prune(batch=FORGET_BATCH)

    async def leave(self) -> None:
        """Remove this process from the membership, so that peers need not wait until its row expires."""
        try:
            await self.manager.leave()
        except (Transient, Permanent) as error:
            self._facts(AttemptFailed("stop", class_of(error), f"PostgreSQL: {error}", False, 0, None))

    async def close(self) -> None:
        """Close all connections."""
        await self._servers.close()
