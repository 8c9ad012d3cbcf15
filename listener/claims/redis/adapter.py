"""Claims kept in Redis: one script call for each batch. Scripts compare tokens and take the time from Redis.

Every call names the place that the caller saw last (its run id, and a mark that a flush removes together with the
claims). Another Redis, or one that lost its claims, refuses the call and changes nothing. So the change is noticed
before the first claim there.

A Redis Cluster is one place too, named by the run ids and marks of all its primaries (``topology.py`` chooses a shard
on each). If one of them fails over, all together are another place.

Keys: ``{group.shard}``, the store's name and 16 bytes of BLAKE2b of the event id. All keys of one call share a slot, so
the same scripts run on a Cluster. A record outlives its lease by the dedup window, so that its epoch and its number of
takeovers are remembered. A settled record shrinks to nine bytes.

A call whose connection fails is tried once more at once. Repeating is safe, since a script recognises its own token.
After that, the caller's breaker decides.
"""

import contextlib
import functools
import hashlib
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from unlost.listener.claims.redis import replies
from unlost.listener.claims.redis.batches import BATCH, Shard, in_batches, together
from unlost.listener.claims.redis.errors import LIBRARY_ERRORS, translated
from unlost.listener.claims.redis.memory import remembered_seconds
from unlost.listener.claims.redis.room import WHICH, Room, find_place
from unlost.listener.claims.redis.script import Script, Sender
from unlost.listener.claims.redis.servers import RedisServers, TagServer
from unlost.listener.core.claim import UNHANDLED, Answer, ClaimRequest, HeldClaim, Verdict
from unlost.listener.core.errors import Transient
from unlost.listener.core.store_mark import Remembered, StoreMark

T = TypeVar("T")
NAMES = 8 * BATCH
"""The number of key names that are cached, from claiming to settling."""
STATES: dict[Verdict, bytes] = {"done": b"D", "dead": b"X"}

_pair = struct.Struct(">II").pack
_blake = hashlib.blake2b


class RedisClaims:
    """``StoreMemory`` in one Redis or in one Redis Cluster."""

    def __init__(
        self,
        servers: RedisServers,
        *,
        token: str,
        group: str,
        lease_seconds: float,
        window_seconds: float,
    ) -> None:
        self._servers = servers
        self._terms = (token.encode(), b"%d" % int(lease_seconds * 1000), b"%d" % int(window_seconds * 1000))
        """The caller's token, and for how many milliseconds leases and records live."""
        self._window = window_seconds
        self._sender = Sender(servers)
        self.room = Room(self._sender)
        self._group = group.encode()
        self._store = b""
        """The store under whose name claims are kept. Records of another store have other keys."""
        self._shards: tuple[Shard, ...] = ()
        self._name = functools.lru_cache(NAMES)(_name)
        self._claim = Script("prelude.lua", "claim.lua")
        self._extend = Script("prelude.lua", "extend.lua")
        self._settle = Script("prelude.lua", "settle.lua")
        self._remember = Script("remember.lua")
        self._release = Script("prelude.lua", "release.lua")

    async def place(self) -> str:
        """See ``Claims``. Once this returns, the calls below are for this place."""
        try:
            homes = await self._servers.find(self._tag)
        except LIBRARY_ERRORS as error:
            self._servers.doubt()
            raise translated(error, WHICH) from error
        mark = secrets.token_hex(4).encode()
        places = await together([self._place_of(home, mark) for home in homes])
        shards = tuple(
            Shard(home.number, self._tag(home.number), home.calls, place.name)
            for home, place in zip(homes, places, strict=True)
        )
        if shards != self._shards:
            self._shards = shards
        self.room.fill = max(place.fill for place in places)
        # Redis answered, so this may fail: a call that needs one more connection then fails by itself.
        with contextlib.suppress(*LIBRARY_ERRORS):
            await together([shard.calls.open_ahead() for shard in shards])
        several = len(shards) > 1
        names = [f"{shard.number}:{shard.place.decode()}" if several else shard.place.decode() for shard in shards]
        return "redis:" + "+".join(names) + (f"@{self._store[:-1].decode()}" if self._store else "")

    def _tag(self, number: int) -> bytes:
        return b"{%s.%d}" % (self._group, number)

    async def _place_of(self, home: TagServer, mark: bytes) -> replies.Place:
        return await find_place(self._sender, self._tag(home.number), home.calls, mark)

    @property
    def remembers_seconds(self) -> float:
        """See ``StoreMemory``."""
        return remembered_seconds(self.room.fill, self._window)

    async def make_room(self) -> int:
        """See ``StoreMemory``."""
        return await self.room.make(await self._known()) if self.room.is_scarce else 0

    def file_under(self, store: str) -> None:
        """See ``StoreMemory``."""
        if (filed := f"{store}:".encode()) != self._store:
            self._store = filed
            self._shards = tuple(shard._replace() for shard in self._shards)  # so that no batch is split between two

    async def remember(self, store: StoreMark) -> Remembered | None:
        """See ``StoreMemory``."""
        what = store.generation.encode(), b"%d" % store.version, store.name.encode()
        first, script = (await self._known())[0], self._remember
        call: list[bytes | int] = [1, first.tag + b"store", *what]
        doing = "remembering how far the store has come"
        return await self._sender.script(first.calls, script, call, doing, replies.remembered)

    async def _known(self) -> tuple[Shard, ...]:
        if not self._shards:
            await self.place()
        return self._shards

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """See ``Claims``."""
        flags = [b"U" if take_over == UNHANDLED else b"%d" % take_over, b"1" if revive else b"0"]
        ids = [request.event_id for request in requests]
        return await self._run_script(self._claim, ids, [_digests(requests)], flags, "claiming events", replies.answers)

    async def look(self, requests: Sequence[ClaimRequest]) -> list[bool]:
        """See ``ReadableClaims``. Reads the records themselves."""
        names = [_name(request.event_id) for request in requests]
        settled = [False] * len(requests)

        async def read(shard: Shard, numbers: Sequence[int]) -> Sequence[None]:
            for i, record in zip(numbers, await self._records(shard, [names[i] for i in numbers]), strict=True):
                # A settled record ends with the digest; in all others more follows.
                settled[i] = record is not None and record[1:] == requests[i].digest[:8]
            return [None] * len(numbers)

        await in_batches(await self._known(), names, read)
        return settled

    async def _records(self, shard: Shard, names: list[bytes]) -> Sequence[bytes | None]:
        keys = [shard.tag + self._store + name for name in names]
        read = functools.partial(_read_so_many, replies.records, len(keys))
        return await self._sender.command(shard.calls, ["MGET", *keys], "looking for events", read)

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """See ``Claims``."""
        return await self._extended(held_claims, b"1", "replicating claims")

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """See ``Claims``."""
        return await self._extended(held_claims, b"0", "renewing claims")

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        """See ``Claims``."""
        ids = [request.event_id for request in requests]
        columns, flags = [_digests(requests)], [STATES[verdict]]
        window = b"%d" % int(self.remembers_seconds * 1000)
        return await self._run_script(
            self._settle, ids, columns, flags, "settling events", replies.marks, window=window
        )

    async def release(self, event_ids: Sequence[str]) -> None:
        """See ``Claims``."""
        await self._run_script(self._release, event_ids, [], [], "releasing claims", replies.nothing)

    async def close(self) -> None:
        """See ``Claims``."""
        await self._servers.close()

    async def _extended(self, held_claims: Sequence[HeldClaim], also_free: bytes, doing: str) -> list[bool]:
        ids = [held.event_id for held in held_claims]
        epochs = b"".join([_pair(held.epoch, held.company) for held in held_claims])
        losses = b"".join([_pair(held.takeovers, held.alone) for held in held_claims])
        return await self._run_script(
            self._extend, ids, [_digests(held_claims), epochs, losses], [also_free], doing, replies.marks
        )

    async def _run_script(
        self,
        script: Script,
        event_ids: Sequence[str],
        columns: list[bytes],
        flags: list[bytes],
        doing: str,
        read: Callable[[object, int], Sequence[T]],
        *,
        window: bytes | None = None,
    ) -> list[T]:
        """Run the script in batches; return its answers in order. ``columns``: columns with 8 bytes for each event."""
        shards = await self._known()
        names = list(map(self._name, event_ids))

        async def one(shard: Shard, numbers: Sequence[int]) -> Sequence[T]:
            if self._shards is not shards:
                raise Transient("the Redis that keeps the claims changed in the middle of a batch; ask again")
            whole = len(numbers) == len(names)
            own = columns if whole else [b"".join([column[i * 8 : i * 8 + 8] for i in numbers]) for column in columns]
            call = self._call(shard, names if whole else [names[i] for i in numbers], [*own, *flags], window)
            reading = functools.partial(_read_so_many, read, len(numbers))
            return await self._sender.script(shard.calls, script, call, doing, reading)

        return await in_batches(shards, names, one)

    def _call(self, shard: Shard, names: list[bytes], own: list[bytes], window: bytes | None) -> list[bytes | int]:
        filed = shard.tag + self._store
        keys = [filed + name for name in names]
        token, lease, longest = self._terms
        return [len(keys) + 1, shard.tag + b"place", *keys, shard.place, token, lease, window or longest, *own]


def _name(event_id: str) -> bytes:
    return _blake(event_id.encode(), digest_size=16).digest()


def _read_so_many(read: Callable[[object, int], T], count: int, reply: object) -> T:
    return read(reply, count)


def _digests(few: Sequence[ClaimRequest | HeldClaim]) -> bytes:
    return b"".join([item.digest[:8] for item in few])
