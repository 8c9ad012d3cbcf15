"""How full the servers are, and how old settled events are removed while they are nearly full."""

import secrets
from collections.abc import Sequence

from unlost.listener.claims.redis import replies
from unlost.listener.claims.redis.batches import BATCH, Shard, together
from unlost.listener.claims.redis.calls import RedisCalls
from unlost.listener.claims.redis.memory import ENOUGH, NEARLY_FULL
from unlost.listener.claims.redis.script import Script, Sender

WHICH, ROOM = "asking which Redis this is", "making room in Redis"
PAGE = 1_000
NO_CLAIMS = (b"place", b"store")
"""Keys under a tag besides claims."""
PLACE = Script("place.lua")


async def find_place(sender: Sender, tag: bytes, calls: RedisCalls, mark: bytes) -> replies.Place:
    """Return the name of a server's memory, and how full it is. A memory without a mark gets this one."""
    return await sender.script(calls, PLACE, [1, tag + b"place", mark], WHICH, replies.place)


class Room:
    """Frees memory in Redis."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._forget = Script("forget.lua")
        self._pages: dict[int, bytes] = {}
        """By shard: the cursor at which reading its keys continues."""
        self.fill = 0.0
        """The share that is used, on the fullest server."""

    @property
    def is_scarce(self) -> bool:
        """Whether old settled events must be removed."""
        return self.fill >= NEARLY_FULL

    async def make(self, shards: Sequence[Shard]) -> int:
        """Forget the older half of the settled events on one page of each shard.

        Return how many, or 0 once there is room enough. Records of other stores go too: nobody believes them any more.
        """
        forgotten = sum(await together([self._forget_page(shard) for shard in shards]))
        # Only the fill is used here. ``place`` decides where claims are kept.
        mark = secrets.token_hex(4).encode()
        now = await together([find_place(self._sender, shard.tag, shard.calls, mark) for shard in shards])
        self.fill = max(place.fill for place in now)
        return forgotten if self.fill >= ENOUGH else 0

    async def _forget_page(self, shard: Shard) -> int:
        scan: list[bytes | str | int] = [
            "SCAN",
            self._pages.get(shard.number, b"0"),
            b"MATCH",
            shard.tag + b"*",
            b"COUNT",
            PAGE,
        ]
        cursor, keys = await self._sender.command(shard.calls, scan, ROOM, replies.scanned)
        self._pages[shard.number] = cursor
        claims = [key for key in keys if key.startswith(shard.tag) and key[len(shard.tag) :] not in NO_CLAIMS][:BATCH]
        if not claims:
            return 0
        return await self._sender.script(shard.calls, self._forget, [len(claims), *claims], ROOM, replies.counted)
