"""Leases on slow connections: a late or reordered answer is no loss."""

import asyncio
import time
from pathlib import Path
from typing import Any

from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.wiring import connect_servers
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.claim import ClaimRequest, Won
from unlost.listener.core.facts import Fact, LeasesLost
from unlost.listener.ports.claims import Claims


class LateReplies:
    """A place that holds back its answer to ``settle``. ``renewed`` counts the answered renewals."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._renewed = asyncio.Condition()
        self.renewed = 0
        self.settled = asyncio.Event()
        self.answer = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._claims, name)

    async def settle(self, *shown: Any) -> list[bool]:
        result = await self._claims.settle(*shown)
        self.settled.set()
        await self.answer.wait()
        return result

    async def renew(self, *held_claims: Any) -> list[bool]:
        result = await self._claims.renew(*held_claims)
        async with self._renewed:
            self.renewed += 1
            self._renewed.notify_all()
        return result

    async def until_renewed(self, count: int) -> None:
        """A lost claim is not renewed any more, so this would end in ``TimeoutError``."""
        async with self._renewed:
            await asyncio.wait_for(self._renewed.wait_for(lambda: self.renewed >= count), 10)


async def test_a_renewal_that_overtakes_the_answer_to_settling_loses_nothing(
    redis_url: str, database_url: str, tmp_path: Path
):
    settings = ListenerSettings.load({"redis_url": redis_url, "database_url": database_url, "lease": "1"})
    servers = connect_servers(settings, "a:1")
    await servers.migrate()
    facts: list[Fact] = []
    breakers = [Breaker(name, fail_max=2, reset_seconds=1, facts=facts.append) for name in ("redis", "postgres")]
    redis = LateReplies(servers.redis)
    manager = ClaimManager(
        membership=servers.membership, postgres=servers.postgres, redis=redis, redis_breaker=breakers[0],
        store_breaker=breakers[1], lease_seconds=settings.lease,
        lost=lambda _: None, read_again=lambda: None, facts=facts.append, clock=time.monotonic,
    )  # fmt: skip
    running = asyncio.create_task(manager.run())
    try:
        await asyncio.wait_for(manager.wait_open(), 20)
        assert await manager.claim([ClaimRequest("e", bytes(32))], take_over=False) == [Won(1, 0)]
        settling = asyncio.create_task(manager.leases.settle(["e"], "done"))
        await asyncio.wait_for(redis.settled.wait(), 20)
        await redis.until_renewed(redis.renewed + 2)
        assert [fact for fact in facts if isinstance(fact, LeasesLost)] == []
        redis.answer.set()
        assert await settling
        assert len(manager.leases) == 0
    finally:
        running.cancel()
        await asyncio.wait([running])
        await servers.close()
