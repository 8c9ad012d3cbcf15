"""Claims kept in Redis: one script call for each batch. Scripts compare tokens and take the time from Redis.

Every call names the place that the caller saw last (its run id, and a mark that a flush removes together with the
claims). Another Redis, or one that lost its claims, refuses the call and changes nothing. So the change is noticed
before the first claim there.

A Redis Cluster is one place too, named by the run ids and marks of all its primaries (``topology.py`` chooses a shard
on each). If one of them fails over, all together are another place.

Keys: ``{group.shard}``, the store's name and 16 bytes of BLAKE2b of the event id. All keys of one call share a slot, so
the same scripts run on a Cluster. A record outlives its lease by the dedup window, so that its epoch and its number of
takeovers are remembered. A settled record shrinks to nine bytes, or with ``REDIS_SECRET`` to 17 that prove that a
listener wrote it (``names.py``). One that proves nothing is deleted, and its event is claimed like a new one.

A call whose connection fails is tried once more at once. Repeating is safe, since a script recognises its own token.
After that, the caller's breaker decides.
"""

import contextlib
import functools
import secrets
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

from unlost.listener.claims.redis import replies
from unlost.listener.claims.redis.batches import Shard, in_batches, together
from unlost.listener.claims.redis.errors import LIBRARY_ERRORS, translated
from unlost.listener.claims.redis.memory import remembered_seconds
from unlost.listener.claims.redis.names import PART, STATES, Names, names_for
from unlost.listener.claims.redis.room import WHICH, Room, find_place
from unlost.listener.claims.redis.script import Script, Sender
from unlost.listener.claims.redis.servers import RedisServers, TagServer
from unlost.listener.core.claim import UNHANDLED, Answer, ClaimRequest, Dead, Done, HeldClaim, Verdict
from unlost.listener.core.errors import Transient
from unlost.listener.core.store_mark import Remembered, StoreMark

T = TypeVar("T")
CLAIMING = "claiming events"
_pair = struct.Struct(">II").pack


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
        secret: str = "",
    ) -> None:
        """Make one. ``secret``: shared by the group's listeners; with it, settled records are verified."""
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
        self._names: Names = names_for(secret, self._group)
        self.forged = 0
        """See ``StoreMemory``."""
        self._claim = Script("prelude.lua", "claim.lua")
        self._extend = Script("prelude.lua", "extend.lua")
        self._settle = Script("prelude.lua", "settle.lua")
        self._remember = Script("remember.lua")
        self._release = Script("prelude.lua", "release.lua")
        self._disprove = Script("prelude.lua", "disprove.lua")

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
        name = "redis:" + "+".join(names) + self._names.suffix
        return name + (f"@{self._store[:-1].decode()}" if self._store else "")

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
            self._names = self._names.under(filed)
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
        if not self._names.proves:
            return await self._run_script(
                self._claim, ids, [_digests(requests)], [*flags, b"0"], CLAIMING, replies.answers
            )
        answers, forged = await self._claim_verified(requests, flags)
        if forged:
            await self._forget([(ids[i], record) for i, record in forged.items()])
            again, unbelievable = await self._claim_verified([requests[i] for i in forged], flags)
            if unbelievable:  # something writes them faster than they are deleted: do without this Redis
                raise Transient("claiming events: Redis holds settled records that no listener wrote")
            for i, answer in zip(forged, again, strict=True):
                answers[i] = answer
        return answers

    async def _claim_verified(
        self, requests: Sequence[ClaimRequest], flags: list[bytes]
    ) -> tuple[list[Answer], dict[int, bytes]]:
        """Return the answers, and the records that no listener wrote, by the number of their event."""
        ids, names = [request.event_id for request in requests], self._names
        found = await self._run_script(
            self._claim, ids, [_digests(requests)], [*flags, b"1"], CLAIMING, replies.proven_answers
        )
        answers = [answer for answer in found if not isinstance(answer, replies.Proof)]
        forged: dict[int, bytes] = {}
        for i, proof in enumerate(found):
            if isinstance(proof, replies.Proof):
                same = names.same(requests[i].event_id, requests[i].digest, proof.verdict, proof.record)
                if same is None:
                    forged[i] = proof.record
                answers.insert(i, Done(bool(same)) if proof.verdict == "done" else Dead(bool(same)))
        self.forged += len(forged)
        return answers, forged

    async def _forget(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Delete settled records that are still as they were found."""
        ids = [event_id for event_id, _ in records]
        halves = [b"".join([record[i : i + PART] for _, record in records]) for i in (0, PART)]
        await self._run_script(self._disprove, ids, halves, [], "forgetting forged records", replies.nothing)

    async def look(self, requests: Sequence[ClaimRequest]) -> list[bool]:
        """See ``ReadableClaims``. Reads the records themselves."""
        names = self._names.of([request.event_id for request in requests])
        settled = [False] * len(requests)

        async def read(shard: Shard, numbers: Sequence[int]) -> Sequence[None]:
            for i, record in zip(numbers, await self._records(shard, [names[i] for i in numbers]), strict=True):
                settled[i] = record is not None and self._is_settled(requests[i], record)
            return [None] * len(numbers)

        await in_batches(await self._known(), names, read)
        return settled

    def _is_settled(self, request: ClaimRequest, record: bytes) -> bool:
        if not self._names.proves:  # a settled record ends with the digest; in all others more follows
            return record[1:] == request.digest[:PART]
        return any(
            record[:1] == state and self._names.same(request.event_id, request.digest, verdict, record[1:])
            for verdict, state in STATES.items()
        )

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
        digests = [request.digest[:PART] for request in requests]
        columns, flags = self._names.settled(ids, digests, verdict), [STATES[verdict]]
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
        names = self._names.of(event_ids)

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


def _read_so_many(read: Callable[[object, int], T], count: int, reply: object) -> T:
    return read(reply, count)


def _digests(few: Sequence[ClaimRequest | HeldClaim]) -> bytes:
    return b"".join([item.digest[:PART] for item in few])
