"""One client of redis-py for each server, and the calls on it."""

from collections.abc import Iterable

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from unlost.listener.claims.redis.calls import RedisCalls
from unlost.listener.claims.redis.parser import BoundedParser
from unlost.listener.core.errors import Misconfigured


def connect_redis(url: str, *, timeout: float = 0.3, connections: int = 4) -> Redis:
    """Make a client that connects within ``timeout`` and never retries by itself.

    It gets no time limit for a free connection and for answers: ``RedisCalls`` limits each call as a whole. On Python
    3.11 redis-py would use ``asyncio.wait_for``, which can swallow a cancellation.
    """
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=None,
            socket_timeout=None,
            socket_connect_timeout=timeout,
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # send no command that is not needed
            parser_class=BoundedParser,
            decode_responses=False,
            protocol=2,  # with RESP 2 a server sends nothing unasked
        )
    except ValueError as error:
        raise Misconfigured(f"REDIS_URL is no address of a Redis: {error}") from None
    return Redis.from_pool(pool)


class Clients:
    """A pool of connections for each server that is needed, opened when first used."""

    def __init__(self, *, timeout: float, connections: int) -> None:
        self._timeout = timeout
        self._connections = connections
        self._calls: dict[str, RedisCalls] = {}

    def at(self, url: str) -> RedisCalls:
        """Return the calls to this server."""
        if url not in self._calls:
            client = connect_redis(url, timeout=self._timeout, connections=self._connections)
            self._calls[url] = RedisCalls(client, timeout=self._timeout)
        return self._calls[url]

    async def keep(self, urls: Iterable[str]) -> None:
        """Close the connections to all other servers. Calls under way there end first."""
        kept = set(urls)
        for url in [url for url in self._calls if url not in kept]:
            await self._calls.pop(url).retire()

    async def close(self) -> None:
        """Close all connections."""
        for calls in self._calls.values():
            await calls.close()
