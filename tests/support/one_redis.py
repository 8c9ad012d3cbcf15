"""One Redis whose client the test can reach, to harm what lies below the library."""

from collections.abc import Sequence

from unlost.listener.claims.redis.calls import RedisCalls
from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.servers import TagServer
from unlost.listener.claims.redis.topology import Tag


class OneRedis:
    """See ``RedisServers``."""

    def __init__(self, url: str) -> None:
        self.client = connect_redis(url)
        self._homes = (TagServer(0, RedisCalls(self.client, timeout=0.3)),)

    async def find(self, tag: Tag) -> Sequence[TagServer]:
        return self._homes

    def doubt(self) -> None:
        """It is always this one."""

    async def close(self) -> None:
        await self.client.aclose()
