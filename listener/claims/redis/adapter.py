"""Claims kept in Redis: one script call for each batch. Scripts compare tokens and take the time from Redis.

Every call names the place that the caller saw last (its run id, and a mark that a flush removes together with the
claims). A Redis that is another one, or has forgotten, refuses the call and changes nothing. So the change is known
before the first claim there, not after the next look.

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
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from unlost.listener.claims.redis import replies
from unlost.listener.claims.redis.calls import RedisCalls
from unlost.listener.claims.redis.errors import LIBRARY_ERRORS, may_try_again, translated
from unlost.listener.claims.redis.parser import BoundedParser
from unlost.listener.core.claim import UNHANDLED, Answer, ClaimRequest, HeldClaim, Verdict
from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.core.store_mark import Remembered, StoreMark

T = TypeVar("T")
READ = ("MGET",)
BATCH = 1_024
NAMES = 8 * BATCH
"""Key names are cached for so many events, from claiming to settling."""
STATES: dict[Verdict, bytes] = {"done": b"D", "dead": b"X"}

_pair = struct.Struct(">II").pack
_blake = hashlib.blake2b


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


class Script:
    """A script, and its name (SHA-1) on the server."""

    def __init__(self, *files: str) -> None:
        room = resources.files("unlost.listener.claims.redis").joinpath("scripts")
        self.text = "\n".join(room.joinpath(file).read_text(encoding="utf-8") for file in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.by_name = ("EVALSHA", self.sha)
        self.by_text = ("EVAL", self.text)


class RedisClaims:
    """``StoreMemory`` in one Redis, or in one Redis Cluster with ``shards`` above 1."""

    def __init__(
        self,
        client: Redis,
        *,
        token: str,
        group: str,
        lease_seconds: float,
        window_seconds: float,
        shards: int = 1,
        timeout: float = 0.3,
    ) -> None:
        self._client = client
        self._calls = RedisCalls(client, timeout=timeout)
        self._terms = (token.encode(), b"%d" % int(lease_seconds * 1000), b"%d" % int(window_seconds * 1000))
        """The caller's token, and for how many milliseconds leases and records live."""
        self._tags = [f"{{{group}.{shard}}}".encode() for shard in range(shards)]
        self._store = ""
        self._filed = self._tags
        """The prefix of claim keys. Nothing remembered of another store is found under it."""
        self._places: tuple[bytes, ...] = ()
        self._name = functools.lru_cache(NAMES)(_name)
        self._place = Script("place.lua")
        self._claim = Script("prelude.lua", "claim.lua")
        self._keep = Script("prelude.lua", "keep.lua")
        self._settle = Script("prelude.lua", "settle.lua")
        self._remember = Script("remember.lua")
        self._release = Script("prelude.lua", "release.lua")

    async def place(self) -> str:
        """See ``Claims``. Once this returns, the calls below are for this place."""
        mark = secrets.token_hex(4).encode()
        doing, script = "asking which Redis this is", self._place
        places = [
            await self._run(script.by_name, script.by_text, [1, tag + b"place", mark], doing, replies.place)
            for tag in self._tags
        ]
        self._places = tuple(places)
        # Redis answered, so this may fail: a call that needs one more connection then fails by itself.
        with contextlib.suppress(*LIBRARY_ERRORS):
            await self._calls.open_ahead()
        return (
            "redis:" + "+".join(dict.fromkeys(place.decode() for place in places)) + (self._store and f"@{self._store}")
        )

    def file_under(self, store: str) -> None:
        """See ``StoreMemory``."""
        if store != self._store:
            self._store = store
            self._filed = [tag + store.encode() + b":" for tag in self._tags]
            self._places = (*self._places,)  # a new tuple, so that no batch is split between two stores

    async def remember(self, store: StoreMark) -> Remembered | None:
        """See ``StoreMemory``."""
        what = store.generation.encode(), b"%d" % store.version, store.name.encode()
        call: list[bytes | int] = [1, self._tags[0] + b"store", *what]
        doing = "remembering how far the store has come"
        return await self._run(self._remember.by_name, self._remember.by_text, call, doing, replies.remembered)

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """See ``Claims``."""
        flags = [b"U" if take_over == UNHANDLED else b"%d" % take_over, b"1" if revive else b"0"]
        ids = [request.event_id for request in requests]
        return await self._ask(self._claim, ids, [_digests(requests)], flags, "claiming events", replies.answers)

    async def look(self, requests: Sequence[ClaimRequest]) -> list[bool]:
        """See ``ReadableClaims``. Reads the records themselves."""
        settled = [False] * len(requests)
        names = [_name(request.event_id) for request in requests]
        for shard, numbers in self._batches(names):
            tag = self._filed[shard]
            keys = [tag + names[i] for i in numbers]
            read = functools.partial(_read_so_many, replies.records, len(keys))
            records = await self._run(READ, READ, keys, "looking for events", read)
            for i, record in zip(numbers, records, strict=True):
                # A settled record ends with the digest; in all others more follows.
                settled[i] = record is not None and record[1:] == requests[i].digest[:8]
        return settled

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """See ``Claims``."""
        return await self._kept(held_claims, b"1", "replicating claims")

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """See ``Claims``."""
        return await self._kept(held_claims, b"0", "renewing claims")

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        """See ``Claims``."""
        ids = [request.event_id for request in requests]
        columns, flags = [_digests(requests)], [STATES[verdict]]
        return await self._ask(self._settle, ids, columns, flags, "settling events", replies.marks)

    async def release(self, event_ids: Sequence[str]) -> None:
        """See ``Claims``."""
        await self._ask(self._release, event_ids, [], [], "releasing claims", replies.nothing)

    async def close(self) -> None:
        """See ``Claims``."""
        with contextlib.suppress(*LIBRARY_ERRORS):  # a silent server does not close TLS
            await self._client.aclose()

    async def _kept(self, held_claims: Sequence[HeldClaim], also_free: bytes, doing: str) -> list[bool]:
        ids = [keep.event_id for keep in held_claims]
        epochs = b"".join([_pair(keep.epoch, keep.company) for keep in held_claims])
        losses = b"".join([_pair(keep.takeovers, keep.alone) for keep in held_claims])
        return await self._ask(
            self._keep, ids, [_digests(held_claims), epochs, losses], [also_free], doing, replies.marks
        )

    async def _ask(
        self,
        script: Script,
        event_ids: Sequence[str],
        columns: list[bytes],
        flags: list[bytes],
        doing: str,
        read: Callable[[object, int], Sequence[T]],
    ) -> list[T]:
        """Run the script in batches; return its answers in order. ``columns``: columns with 8 bytes for each event."""
        places = self._places
        if not places:
            await self.place()
            places = self._places
        names = list(map(self._name, event_ids))
        answers: dict[int, T] = {}
        for shard, numbers in self._batches(names):
            if self._places is not places:
                raise Transient("the Redis that keeps the claims changed in the middle of a batch; ask again")
            whole = len(numbers) == len(names)
            own = columns if whole else [b"".join([column[i * 8 : i * 8 + 8] for i in numbers]) for column in columns]
            call = self._call(shard, names if whole else [names[i] for i in numbers], [*own, *flags])
            reading = functools.partial(_read_so_many, read, len(numbers))
            part = await self._run(script.by_name, script.by_text, call, doing, reading)
            if whole:
                return list(part)
            answers.update(zip(numbers, part, strict=True))
        return [answers[i] for i in range(len(names))]

    def _batches(self, names: list[bytes]) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield batches of events that share a slot and fit one call: the shard, and the events' numbers."""
        shards = len(self._tags)
        for shard in range(shards):
            numbers: Sequence[int] = range(len(names))
            if shards > 1:
                numbers = [i for i, name in enumerate(names) if name[0] % shards == shard]
            for first in range(0, len(numbers), BATCH):
                yield shard, numbers[first : first + BATCH]

    def _call(self, shard: int, names: list[bytes], own: list[bytes]) -> list[bytes | int]:
        filed = self._filed[shard]
        keys = [filed + name for name in names]
        return [len(keys) + 1, self._tags[shard] + b"place", *keys, self._places[shard], *self._terms, *own]

    async def _run(
        self,
        first: tuple[str, ...],
        again: tuple[str, ...],
        call: Sequence[bytes | int],
        doing: str,
        read: Callable[[object], T],
    ) -> T:
        """Run one command, and once more if that may help: then a script is sent as text, not by its name."""
        try:
            return await self._calls.ask(read, *first, *call)
        except LIBRARY_ERRORS as error:
            if not isinstance(error, NoScriptError) and not may_try_again(error):
                raise translated(error, doing) from error
        try:
            return await self._calls.ask(read, *again, *call)
        except LIBRARY_ERRORS as error:
            raise translated(error, doing) from error


def _name(event_id: str) -> bytes:
    return _blake(event_id.encode(), digest_size=16).digest()


def _read_so_many(read: Callable[[object, int], T], count: int, reply: object) -> T:
    return read(reply, count)


def _digests(few: Sequence[ClaimRequest | HeldClaim]) -> bytes:
    return b"".join([item.digest[:8] for item in few])
