"""The two places that can be called: the Redis that answers now, and the claims table in PostgreSQL.

Each call reports its outcome to the breaker of its place. Errors leave here as ``Transient``. Which places a listener
declares is decided elsewhere (``quorum.py``).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from unlost.listener.claims.quorum import Place, Places
from unlost.listener.core.breaker import Breaker
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.store_mark import Remembered, StoreMark
from unlost.listener.ports.claims import Claims, StoreMemory

T = TypeVar("T")


class ClaimBackends:
    """The places that this process knows, and the way to call each."""

    def __init__(
        self,
        *,
        redis: StoreMemory,
        postgres: Claims,
        redis_breaker: Breaker,
        store_breaker: Breaker,
        clock: Callable[[], float],
    ) -> None:
        self.kept_in_redis = redis
        self._postgres = postgres
        self._redis_breaker = redis_breaker
        self._store_breaker = store_breaker
        self._clock = clock
        self.redis: Place | None = None
        self.postgres: Place = ""
        self.lost = asyncio.Event()
        """Set when a place has just become unreachable."""

    def has(self, place: Place) -> bool:
        """Return whether this place can be called."""
        return place in (self.redis, self.postgres)

    def has_all(self, places: Places) -> bool:
        """Return whether each of these places can be called."""
        return places <= {self.redis, self.postgres}

    @property
    def redis_is_away(self) -> bool:
        """Whether calls to Redis are known to fail."""
        return self._redis_breaker.is_open

    @property
    def postgres_is_away(self) -> bool:
        """Whether calls to PostgreSQL are known to fail."""
        return self._store_breaker.is_open

    def in_order(self, places: Collection[Place]) -> list[Place]:
        """Sort places, Redis first: it is called for every event, PostgreSQL only for those that were won in Redis."""
        return sorted(places, key=self.postgres.__eq__) if len(places) > 1 else list(places)

    def at(self, place: Place) -> Claims:
        """Return the claims that are kept in this place."""
        return self._postgres if place == self.postgres else self.kept_in_redis

    async def call(self, place: Place, call: Awaitable[T]) -> T:
        """Await a call to a place and report its outcome to that place's breaker."""
        breaker = self._store_breaker if place == self.postgres else self._redis_breaker
        try:
            result = await call
        except (Transient, Permanent) as error:
            breaker.failed(self._clock(), str(error))
            if breaker.is_open:
                self.lost.set()
            raise Transient(str(error)) from error
        breaker.succeeded()
        return result

    def file_under(self, store: str) -> None:
        """Keep Redis's claims under another store's name. Redis is then another place, unknown until looked up."""
        self.kept_in_redis.file_under(store)
        self.redis = None

    async def look_for_redis(self, store: StoreMark) -> tuple[Place, Remembered | None] | None:
        """Find out which Redis answers and what it remembers of the store; report how far the store has come.

        Return None if Redis does not answer. One failure alone does not mean that it is gone. The caller sets ``redis``
        if it trusts the answer.
        """
        if not self._redis_breaker.may_try(self._clock()):
            self.redis = None
            return None
        try:
            place = await self.kept_in_redis.place()
            if place != self.redis:
                self.redis = None  # calls go to this one from now on, and nobody has declared it yet
            known = await self.kept_in_redis.remember(store)
        except (Transient, Permanent) as error:  # a Redis that refuses us counts as away
            self._redis_breaker.failed(self._clock(), str(error))
            if self._redis_breaker.is_open:
                self.redis = None
        else:
            self._redis_breaker.succeeded()
            return place, known
        return None

    def postgres_failed(self, why: str) -> None:
        """Report a failed call that was not about claims."""
        self._store_breaker.failed(self._clock(), why)

    def postgres_answered(self) -> None:
        """Report a successful call that was not about claims."""
        self._store_breaker.succeeded()
