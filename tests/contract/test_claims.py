"""The promises of every place of claims, checked on a real Redis, a real PostgreSQL, and the simulated ones."""

import asyncio
import hashlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit

import msgspec
import pytest
import uvloop
from redis.asyncio import Redis

from tests.simulation.by_hand import HandLink
from tests.simulation.hooks import Hooks
from tests.simulation.postgres import PostgresMemory
from tests.simulation.postgres_adapters import Session, SimulatedPostgresClaims, SimulatedStore
from tests.simulation.redis import RedisMemory, SimulatedRedisClaims
from tests.support.cutting_proxy import CuttingProxy
from tests.support.one_redis import OneRedis
from tests.support.yardstick import Yardstick
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.address import read_address
from unlost.listener.claims.redis.client import connect_redis
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.claim import UNHANDLED, ClaimRequest, Dead, Done, Held, HeldClaim, Lapsed, Verdict, Won
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.event import parse
from unlost.listener.core.store_mark import Remembered, StoreMark
from unlost.listener.ports.claims import Claims
from unlost.listener.ports.rows import NewRow
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.system.redis_cluster import ValkeyCluster

pytestmark = pytest.mark.database("migrated")

LEASE, SHORT = 30.0, 0.3


def ask(event_id: str, content: str = "content") -> ClaimRequest:
    return ClaimRequest(event_id, hashlib.sha256(content.encode()).digest())


def held_claim(event_id: str, epoch: int = 1, takeovers: int = 0) -> HeldClaim:
    return HeldClaim(event_id, ask(event_id).digest, epoch, takeovers)


class Place:
    """One place, for any number of listeners."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind = kind
        self.url = url
        self.cluster: ValkeyCluster
        self._closing: list[Callable[[], Awaitable[None]]] = []

    def listener(self, token: str = "a", *, lease: float = LEASE, url: str | HandLink | None = None) -> Claims:
        assert not isinstance(url, HandLink)
        if self.kind in ("redis", "cluster"):
            redis = RedisClaims(
                redis_servers(url or self.url), token=token, group="g", lease_seconds=lease, window_seconds=600,
            )  # fmt: skip
            self._closing.append(redis.close)
            return redis
        database = Database(url or self.url, timeout=1.0)
        self._closing.append(database.close)
        return PostgresClaims(database, token=token, lease_seconds=lease, window_seconds=600)

    async def store(self, event_id: str, content: str = "content") -> None:
        """Write the row, if the place reads "done" from rows."""
        if self.kind == "postgres":
            database = Database(self.url)
            event = parse(b'{"event_id":"%s","payload":{}}' % event_id.encode(), max_bytes=1000)
            await PostgresRows(database, instance_id="i", token="t").insert([NewRow(event, 1, 1, 0.0)])
            async with database.acquire() as connection:
                await connection.execute("UPDATE unlost.events SET payload_sha256 = $1", ask(event_id, content).digest)
            await database.close()

    async def turn_clock_back(self, seconds: float) -> None:
        """Change the records as if the clock had gone back: each ends that much later."""
        if self.kind == "postgres":
            database = Database(self.url)
            async with database.acquire() as connection:
                await connection.execute("UPDATE unlost.claims SET until = until + make_interval(secs => $1)", seconds)
            await database.close()
            return
        for url in self._servers:
            client = connect_redis(url)
            async for key in client.scan_iter("{g.*"):
                record = await client.get(key)
                assert isinstance(record, bytes)
                if record[:1] in (b"L", b"R"):
                    (until,) = struct.unpack_from(">Q", record, 9)
                    await client.set(key, record[:9] + struct.pack(">Q", until + int(seconds * 1000)) + record[17:])
            await client.aclose()

    @property
    def _servers(self) -> list[str]:
        if self.kind == "redis":
            return [self.url]
        address = read_address(self.url)
        return [address.of("127.0.0.1", node.port) for node in self.cluster.primaries()]

    def wire(self) -> CuttingProxy | HandLink:
        return CuttingProxy(self.url)

    async def close(self) -> None:
        for close in self._closing:
            await close()


class SimulatedPlace(Place):
    """The same for a simulated server."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind, "")
        self._wire = HandLink()
        self._redis = RedisMemory(time.monotonic, Hooks())
        self._postgres = PostgresMemory(time.monotonic, Hooks())

    def listener(self, token: str = "a", *, lease: float = LEASE, url: str | HandLink | None = None) -> Claims:
        wire = HandLink(refused=True) if isinstance(url, str) else url or self._wire
        if self.kind == "simulated redis":
            return SimulatedRedisClaims(self._redis, wire, token=token, lease_seconds=lease)
        return SimulatedPostgresClaims(self._session(wire), token=token, lease_seconds=lease)

    async def store(self, event_id: str, content: str = "content") -> None:
        event = parse(b'{"event_id":"%s","payload":{}}' % event_id.encode(), max_bytes=1000)
        event = msgspec.structs.replace(event, digest=ask(event_id, content).digest)
        await SimulatedStore(self._session(self._wire), token="t").insert([NewRow(event, 1, 1, 0.0)])

    async def turn_clock_back(self, seconds: float) -> None:
        for record in self._redis.records.values():
            record.until += seconds
        for claim in self._postgres.claims.values():
            claim.until += seconds

    def wire(self) -> CuttingProxy | HandLink:
        return HandLink()

    def _session(self, wire: HandLink) -> Session:
        return Session(self._postgres, wire, timeout=1.0)


WIRED = ["redis", "postgres", "simulated redis", "simulated postgres"]
"""Places that a test can reach by a wire of its own. The nodes of a Cluster name their own addresses."""
URLS = {"redis": "redis_url", "cluster": "cluster_url", "postgres": "database_url"}


@pytest.fixture(params=[*WIRED, "cluster"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param.startswith("simulated"):
        yield SimulatedPlace(request.param)
        return
    url = request.getfixturevalue(URLS[request.param])
    if request.param == "postgres":
        database = Database(url)
        await migrate(database)
        await database.close()
    place = Place(request.param, url)
    if request.param == "cluster":
        place.cluster = request.getfixturevalue("valkey_cluster")
    yield place
    await place.close()


async def lapsed(claims: Claims, *event_ids: str) -> None:
    """Wait until another token sees that these leases have expired."""
    while not all(isinstance(a, Lapsed) for a in await claims.claim([ask(e) for e in event_ids], take_over=False)):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.02)


async def test_nobody_holds_it(place: Place) -> None:
    assert await place.listener().claim([ask("e")], take_over=False) == [Won(1, 0)]


async def test_records_of_one_store_are_not_used_for_another(place: Place) -> None:
    claims = place.listener()
    if not isinstance(claims, RedisClaims | SimulatedRedisClaims):
        return
    names = set()
    for store in ("one", "other"):
        claims.file_under(store)
        names.add(await claims.place())
        assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]
        await claims.settle([ask("e")], "done")
        assert await claims.look([ask("e")]) == [True]
    assert len(names) == 2
    assert all(name.startswith("redis:") for name in names)
    claims.file_under("one")
    assert await claims.claim([ask("e")], take_over=False) == [Done(same=True)]


async def test_redis_remembers_how_far_a_store_had_come(place: Place) -> None:
    claims = place.listener()
    if not isinstance(claims, RedisClaims | SimulatedRedisClaims):
        return
    marks = [StoreMark("g", version, incarnation) for version, incarnation in ((7, "i"), (9, "j"), (8, "i"), (9, "i"))]
    seventh, ninth = Remembered(7, marks[0].name), Remembered(9, marks[1].name)
    assert [await claims.remember(mark) for mark in marks] == [None, seventh, ninth, ninth]
    assert await claims.remember(StoreMark("other", 1, "i")) is None


async def test_an_empty_batch_asks_nothing(place: Place) -> None:
    claims = place.listener()
    assert await claims.claim([], take_over=True) == []
    assert await claims.settle([], "dead") == []
    assert await claims.renew([]) == []
    await claims.release([])


async def test_my_own_token_is_recognised(place: Place) -> None:
    claims = place.listener()
    assert await claims.claim([ask("e")], take_over=False) == await claims.claim([ask("e")], take_over=True)


async def test_another_holds_it(place: Place) -> None:
    await place.listener("a").claim([ask("e")], take_over=False)
    same, other = [
        (await place.listener("b").claim([ask("e", content)], take_over=True))[0] for content in ("content", "other")
    ]
    assert isinstance(same, Held)
    assert LEASE - 5 < same.seconds_left <= LEASE
    assert same.same
    assert isinstance(other, Held)
    assert not other.same


async def test_a_lapsed_lease_is_taken_over_only_when_asked_for(place: Place) -> None:
    a, b, c = place.listener("a", lease=SHORT), place.listener("b", lease=SHORT), place.listener("c")
    await a.claim([ask("e")], take_over=False)
    await lapsed(b, "e")
    assert await b.claim([ask("e", "other")], take_over=False) == [Lapsed(False)]
    assert await b.claim([ask("e")], take_over=True) == [Won(2, 1)]
    await lapsed(c, "e")
    assert await c.claim([ask("e")], take_over=True) == [Won(3, 2, 1)]


async def test_my_own_lapsed_lease_is_still_mine(place: Place) -> None:
    a, b = place.listener("a", lease=SHORT), place.listener("b")
    await a.claim([ask("e")], take_over=False)
    await lapsed(b, "e")
    assert await a.claim([ask("e")], take_over=True) == [Won(1, 0)]


async def test_a_released_claim_is_won_at_once_and_is_no_takeover(place: Place) -> None:
    a, b = place.listener("a"), place.listener("b")
    await a.claim([ask("e")], take_over=False)
    await b.release(["e"])
    assert isinstance((await b.claim([ask("e")], take_over=False))[0], Held)
    await a.release(["e", "unknown"])
    assert await b.claim([ask("e")], take_over=False) == [Won(2, 0)]


async def test_only_an_owner_that_ran_it_alone_counts_against_a_suspect(place: Place) -> None:
    claims = [place.listener(token, lease=SHORT) for token in "abcde"]
    await claims[0].claim([ask("e"), ask("f")], take_over=0)
    for number, (together, shown) in enumerate([(2, Won(2, 1)), (1, Won(3, 2)), (1, Won(4, 3, 1)), (1, Won(5, 4, 2))]):
        await lapsed(claims[4], "e", "f")
        requests = [ask("e"), ask("f")] if together == 2 else [ask("e")]
        assert await claims[number % 3 + 1].claim(requests, take_over=together) == [shown] * together


async def test_after_each_death_half_as_many_suspects_are_taken_over_at_once(place: Place) -> None:
    requests = [ask(f"e{number}") for number in range(8)]
    ids = [each.event_id for each in requests]
    a, b, c = (place.listener(token, lease=SHORT) for token in "abc")
    await a.claim(requests, take_over=0)
    await lapsed(c, *ids)
    assert await b.claim(requests, take_over=8) == [Won(2, 1)] * 8
    await lapsed(c, *ids)
    assert await c.claim(requests[:5], take_over=5) == [Lapsed(True, 8)] * 5
    assert Lapsed(True, 8).most == 4
    assert await c.claim(requests[:4], take_over=4) == [Won(3, 2)] * 4
    await lapsed(a, *ids)
    assert await a.claim([requests[0], requests[7]], take_over=4) == [Lapsed(True, 4), Won(3, 2)]
    assert await a.claim(requests[:1], take_over=2) == [Won(4, 3)]
    assert (Lapsed(True, 1).most, Lapsed(True, 0).most) == (1, None)


async def test_without_a_handler_what_lapsed_is_no_suspect(place: Place) -> None:
    a, b, c = (place.listener(token, lease=SHORT) for token in "abc")
    await a.claim([ask("e")], take_over=0)
    await lapsed(c, "e")
    await b.claim([ask("e")], take_over=1)
    await lapsed(c, "e")
    assert await c.claim([ask("e")], take_over=UNHANDLED) == [Won(3, 2, 1)]
    await lapsed(a, "e")
    assert await a.claim([ask("e")], take_over=9) == [Won(4, 3, 1)]


async def test_a_suspect_that_was_given_back_or_is_mine_still_is_one(place: Place) -> None:
    a, b = place.listener("a", lease=SHORT), place.listener("b")
    await a.claim([ask("e"), ask("fresh")], take_over=0)
    await lapsed(b, "e")
    assert await b.claim([ask("e")], take_over=2) == [Won(2, 1)]
    assert await b.claim([ask("e")], take_over=0) == [Lapsed(True, 2)]
    assert await b.claim([ask("e")], take_over=2) == [Won(2, 1)]
    await b.release(["e"])
    assert await a.claim([ask("e"), ask("fresh")], take_over=0) == [Lapsed(True, 2), Won(1, 0)]
    assert await a.claim([ask("e")], take_over=2) == [Lapsed(True, 2)]
    assert await a.claim([ask("e")], take_over=1) == [Won(3, 1)]


async def test_a_replicated_claim_keeps_its_takeovers_and_company(place: Place) -> None:
    a, b = place.listener("a", lease=SHORT), place.listener("b")
    assert (
        await a.replicate([HeldClaim("e", ask("e").digest, 4, 3, 2, 1), HeldClaim("f", ask("f").digest, 4, 3, 2, 4)])
        == [True] * 2
    )
    await lapsed(b, "e", "f")
    assert await b.claim([ask("e")], take_over=2) == [Lapsed(True, 1)]
    assert await b.claim([ask("e")], take_over=1) == [Won(5, 4, 3)]
    assert await b.claim([ask("f")], take_over=2) == [Won(5, 4, 2)]
    assert await b.renew([HeldClaim("g", ask("g").digest, 4, 3, 2, 4)]) == [True]
    assert await b.claim([ask("g")], take_over=4) == [Won(4, 3, 2)]


@pytest.mark.parametrize("call", ["claim", "settle", "replicate"])
async def test_a_clock_that_went_back_holds_nothing_longer_than_a_lease(place: Place, call: str) -> None:
    """Each lease has its own length, not the caller's: members of a group may have different ones."""
    dead, heir = place.listener("dead", lease=SHORT), place.listener("heir", lease=LEASE)
    await dead.claim([ask("e")], take_over=0)
    await place.turn_clock_back(3600)
    if call == "settle":
        assert await heir.settle([ask("e")], "dead") == [False]
    elif call == "replicate":
        assert await heir.replicate([held_claim("e")]) == [False]
    (held,) = await heir.claim([ask("e")], take_over=1)
    assert isinstance(held, Held)
    assert held.seconds_left < SHORT + 0.001
    await lapsed(heir, "e")
    assert await heir.claim([ask("e")], take_over=1) == [Won(2, 1)]


async def test_a_clock_that_went_back_takes_nothing_from_a_living_owner(place: Place) -> None:
    owner, peer = place.listener("owner"), place.listener("peer", lease=SHORT)
    await owner.claim([ask("e"), ask("released")], take_over=0)
    await owner.release(["released"])
    await place.turn_clock_back(3600)
    held, released = await peer.claim([ask("e"), ask("released")], take_over=1)
    assert isinstance(held, Held)
    assert LEASE - 5 < held.seconds_left <= LEASE
    assert released == Won(2, 0)
    assert await owner.renew([held_claim("e")]) == [True]
    assert await owner.settle([ask("e")], "dead") == [True]
    assert await peer.claim([ask("e")], take_over=1) == [Dead(True)]


async def test_done(place: Place) -> None:
    a, b = place.listener("a"), place.listener("b")
    await a.claim([ask("e")], take_over=False)
    await place.store("e")
    assert await a.settle([ask("e")], "done") == [True]
    assert await b.claim([ask("e")], take_over=True, revive=True) == [Done(True)]
    assert await b.claim([ask("e", "other")], take_over=True) == [Done(False)]
    assert await b.replicate([held_claim("e")]) == [False]


async def test_dead_and_revived(place: Place) -> None:
    a, b = place.listener("a"), place.listener("b")
    await a.claim([ask("e")], take_over=False)
    assert await a.settle([ask("e")], "dead") == [True]
    assert await b.claim([ask("e")], take_over=True) == [Dead(True)]
    assert await b.claim([ask("e", "other")], take_over=True) == [Dead(False)]
    assert await a.renew([held_claim("e")]) == [False]
    assert await b.claim([ask("e")], take_over=False, revive=True) == [Won(1, 0)]
    assert isinstance((await a.claim([ask("e")], take_over=False, revive=True))[0], Held)


async def test_settling_what_nobody_claimed_here(place: Place) -> None:
    claims = place.listener()
    assert await claims.settle([ask("e")], "dead") == [True]
    assert await claims.claim([ask("e")], take_over=True) == [Dead(True)]


@pytest.mark.parametrize("verdict", ["done", "dead"])
async def test_settling_what_another_holds_changes_nothing(place: Place, verdict: Verdict) -> None:
    a, b = place.listener("a"), place.listener("b")
    await a.claim([ask("e")], take_over=False)
    assert await b.settle([ask("e"), ask("free")], verdict) == [False, True]
    assert await a.renew([held_claim("e")]) == [True]
    assert await a.claim([ask("e")], take_over=False) == [Won(1, 0)]


async def test_renewing_extends_and_returns_what_was_lost(place: Place) -> None:
    a, b = place.listener("a", lease=SHORT), place.listener("b")
    await a.claim([ask("e"), ask("lost")], take_over=False)
    await lapsed(b, "e", "lost")
    await b.claim([ask("lost")], take_over=True)
    longer = place.listener("a")
    assert await longer.renew([held_claim("lost"), held_claim("e"), held_claim("missing", 7, 2)]) == [False, True, True]
    held = await b.claim([ask("e")], take_over=True)
    assert isinstance(held[0], Held)
    assert held[0].seconds_left > LEASE - 5
    assert await longer.claim([ask("missing")], take_over=True) == [Won(7, 2)]


async def test_replicating_keeps_epoch_and_takeovers(place: Place) -> None:
    a, b = place.listener("a"), place.listener("b")
    await b.claim([ask("taken"), ask("released")], take_over=False)
    await b.release(["released"])
    assert await a.replicate([held_claim("new", 4, 2), held_claim("taken"), held_claim("released", 9)]) == [
        True,
        False,
        True,
    ]
    assert await a.replicate([held_claim("new", 4, 2)]) == [True]
    assert await a.claim([ask("new"), ask("released")], take_over=True) == [Won(4, 2), Won(9, 0)]
    assert isinstance((await b.claim([ask("new")], take_over=True))[0], Held)


async def test_replicating_what_lapsed(place: Place) -> None:
    a, b = place.listener("a"), place.listener("b", lease=SHORT)
    await b.claim([ask("e")], take_over=False)
    await lapsed(a, "e")
    assert await a.replicate([held_claim("e")]) == [True]
    assert await b.renew([held_claim("e")]) == [False]


async def test_a_batch_of_mixed_answers_keeps_its_order(place: Place) -> None:
    a, b = place.listener("a"), place.listener("b")
    await a.claim([ask("z-held"), ask("m-released"), ask("dead")], take_over=False)
    await a.release(["m-released"])
    await a.settle([ask("dead")], "dead")
    batch = [ask("z-held"), ask("x-new"), ask("dead"), ask("m-released"), ask("a-new"), ask("naïve ☃")]
    held, *others = await b.claim(batch, take_over=True)
    assert isinstance(held, Held)
    assert others == [Won(1, 0), Dead(True), Won(2, 0), Won(1, 0), Won(1, 0)]


async def test_a_large_batch(place: Place) -> None:
    claims = place.listener()
    batch = [ask(f"e{i}") for i in range(3_000)]
    assert await claims.claim(batch, take_over=False) == [Won(1, 0)] * 3_000
    assert await claims.renew([held_claim(a.event_id) for a in batch]) == [True] * 3_000
    assert await claims.settle(batch, "dead") == [True] * 3_000


async def test_exactly_one_of_two_that_race_wins(place: Place) -> None:
    racers = [place.listener(token) for token in ("a", "b")]
    batches = [[ask(f"e{i}") for i in range(50 * n, 50 * n + 50)] for n in range(6)]
    tasks = [
        racer.claim(list(reversed(batch)) if n else batch, take_over=True)
        for batch in batches
        for n, racer in enumerate(racers)
    ]
    answers = await asyncio.gather(*tasks)
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        for one, other in zip(first, reversed(second), strict=True):
            assert isinstance(one, Won) != isinstance(other, Won)


async def test_exactly_one_of_two_that_take_over_wins(place: Place) -> None:
    events = [f"e{i}" for i in range(40)]
    await place.listener("gone", lease=SHORT).claim([ask(e) for e in events], take_over=False)
    racers = [place.listener(token) for token in ("a", "b")]
    await lapsed(racers[0], *events)
    first, second = await asyncio.gather(*(racer.claim([ask(e) for e in events], take_over=True) for racer in racers))
    for one, other in zip(first, second, strict=True):
        assert {type(one), type(other)} == {Won, Held}


@pytest.mark.parametrize("place", WIRED, indirect=True)
async def test_a_lost_reply_to_a_claim_is_no_lost_event(place: Place) -> None:
    async with place.wire() as wire:
        claims = place.listener(url=wire.url)
        await claims.place()
        await claims.claim([ask("warm")], take_over=False)
        wire.cut_reply(b"EVALSHA" if place.kind == "redis" else b"lost-one")
        try:
            answers = await claims.claim([ask("lost-one")], take_over=False)
        except Transient:  # retrying once is up to the caller here
            answers = await claims.claim([ask("lost-one")], take_over=False)
        assert wire.cuts == 1
        assert answers == [Won(1, 0)]
    assert isinstance((await place.listener("b").claim([ask("lost-one")], take_over=True))[0], Held)


@pytest.mark.parametrize("place", WIRED, indirect=True)
async def test_a_silent_server_is_known_in_time(place: Place, database_url: str) -> None:
    async with place.wire() as wire:
        claims = place.listener(url=wire.url)
        await claims.place()
        async with Yardstick(database_url) as yardstick:
            wire.swallow()
            with pytest.raises(Transient):
                await claims.claim([ask("e")], take_over=False)
            assert yardstick.seconds < (1.0 if place.kind == "redis" else 4.0)
        wire.pass_again()
        assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]


@pytest.mark.parametrize("place", WIRED, indirect=True)
async def test_cancelling_leaves_a_usable_place(place: Place) -> None:
    async with place.wire() as wire:
        claims = place.listener(url=wire.url)
        await claims.place()
        wire.swallow()
        task = asyncio.ensure_future(claims.claim([ask("e")], take_over=False))
        await asyncio.wait([task], timeout=0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wire.pass_again()
        assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]


async def test_an_address_where_nobody_answers(place: Place) -> None:
    scheme = "postgresql" if place.kind == "postgres" else "redis"
    for host in ("127.0.0.1:1", "nowhere.invalid:1"):
        with pytest.raises(Transient):
            await place.listener(url=f"{scheme}://{host}/0").place()


async def test_no_cancellation_is_swallowed(place: Place) -> None:
    """Whatever step of a call is cancelled, a loop around the call ends."""
    claims = place.listener()
    await claims.claim([ask("e")], take_over=False)

    async def for_ever() -> None:
        while True:
            await claims.renew([held_claim("e")])

    for steps in range(80):
        task = asyncio.create_task(for_ever())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, f"cancelled after {steps} steps of the loop, and still running"
        assert task.cancelled()


async def test_a_redis_that_forgot_is_another_place(redis_url: str) -> None:
    place = Place("redis", redis_url)
    claims = place.listener()
    first = await claims.place()
    assert await claims.place() == first
    assert await place.listener("b").place() == first
    await claims.claim([ask("e")], take_over=False)
    client = connect_redis(redis_url)
    await client.flushdb()
    with pytest.raises(Transient, match="PLACECHANGED"):
        await claims.renew([held_claim("e")])
    assert await client.dbsize() == 0
    assert await claims.place() != first
    assert await claims.renew([held_claim("e")]) == [True]
    await client.aclose()
    await place.close()


async def test_a_restarted_redis_is_another_place_even_if_it_remembers(own_valkey) -> None:
    place = Place("redis", own_valkey.url)
    claims = place.listener()
    first = await claims.place()
    await claims.claim([ask("e")], take_over=False)
    own_valkey.restart()
    with pytest.raises(Transient, match="PLACECHANGED"):
        await claims.claim([ask("e")], take_over=False)
    assert await claims.place() != first
    assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]
    await place.close()


async def test_a_restart_that_ends_all_connections_fails_no_call(own_valkey) -> None:
    place = Place("redis", own_valkey.url)
    claims = place.listener()
    await claims.place()
    await asyncio.gather(*(claims.claim([ask(f"e{number}")], take_over=False) for number in range(4)))
    own_valkey.restart()
    await claims.place()
    answers = await asyncio.gather(*(claims.claim([ask(f"f{number}")], take_over=False) for number in range(4)))
    assert answers == [[Won(1, 0)]] * 4
    await place.close()


async def test_more_calls_at_once_than_there_are_connections(redis_url: str) -> None:
    place = Place("redis", redis_url)
    claims = place.listener()
    await claims.place()
    answers = await asyncio.gather(*(claims.claim([ask(f"e{number}")], take_over=False) for number in range(50)))
    assert answers == [[Won(1, 0)]] * 50
    await place.close()


async def test_a_redis_that_lost_its_scripts(redis_url: str) -> None:
    place = Place("redis", redis_url)
    claims = place.listener()
    await claims.claim([ask("e")], take_over=False)
    client = connect_redis(redis_url)
    await client.script_flush()
    await client.aclose()
    assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]
    await place.close()


@pytest.mark.parametrize("rights", ["+@all", "+@all -msetex"])
async def test_a_batch_is_written_alike_with_one_command_and_with_many(redis_url: str, rights: str) -> None:
    """A server that lacks or forbids the command for many records receives one command per record."""
    client = connect_redis(redis_url)
    user = f"writer{len(rights)}"
    await client.execute_command("ACL", "SETUSER", user, "reset", "on", ">secret", "~*", *rights.split())
    before = await calls_of("msetex", client)
    parts = urlsplit(redis_url)
    place = Place("redis", parts._replace(netloc=f"{user}:secret@{parts.hostname}:{parts.port}").geturl())
    one, other = place.listener("a"), place.listener("b")
    requests = [ask(f"{user}-{number}") for number in range(300)]
    assert await one.claim(requests, take_over=False) == [Won(1, 0)] * 300
    assert {type(answer) for answer in await other.claim(requests, take_over=False)} == {Held}
    assert await one.settle(requests[:200], "done") == [True] * 200
    await one.release([each.event_id for each in requests[200:]])
    assert await other.claim(requests, take_over=False) == [Done(True)] * 200 + [Won(2, 0)] * 100
    ends = [await client.pttl(key) async for key in client.scan_iter("{g.0}*") if not key.endswith(b"place")]
    assert len(ends) == 300
    assert all(0 < left <= 600_000 for left in ends)
    assert (await calls_of("msetex", client) > before) is (rights == "+@all")
    await place.close()
    await client.execute_command("ACL", "DELUSER", user)
    await client.aclose()


async def calls_of(command: str, client: Redis) -> int:
    """How often the server executed this command."""
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_a_wrong_password_is_permanent(redis_url: str) -> None:
    place = Place("redis", redis_url.replace("redis://:", "redis://:wrong"))
    with pytest.raises(Permanent):
        await place.listener().place()
    await place.close()


@pytest.mark.parametrize("place", ["redis", "cluster"], indirect=True)
async def test_a_look_returns_what_is_settled_and_claims_nothing(place: Place) -> None:
    one, two = place.listener("a"), place.listener("b")
    assert isinstance(two, RedisClaims)
    held, stored, buried = ask("held"), ask("stored"), ask("buried")
    await one.claim([held, stored, buried], take_over=False)
    await one.settle([stored, ask("unclaimed")], "done")
    await one.settle([buried], "dead")
    assert await two.look([stored, buried, ask("unclaimed"), stored]) == [True] * 4
    assert await two.look([ask("stored", "other"), ask("buried", "other"), held, ask("nobody's")]) == [False] * 4
    assert await two.look([]) == []
    assert await two.claim([ask("nobody's")], take_over=False) == [Won(1, 0)]


async def test_a_crashed_postgres_is_another_place(own_postgres) -> None:
    url = own_postgres.create_database("crash")
    database = Database(url)
    await migrate(database)
    place = Place("postgres", url)
    claims = place.listener()
    first = await claims.place()
    await claims.claim([ask("e")], take_over=False)
    own_postgres.kill()
    own_postgres.start()
    for call in (claims.claim([ask("e")], take_over=False), claims.renew([held_claim("e")])):
        with pytest.raises(Transient):
            await call
    while await claims_place_or_none(claims) in (None, first):  # noqa: ASYNC110 - only the server knows
        await asyncio.sleep(0.05)
    assert await claims.renew([held_claim("e", 3)]) == [True]
    assert await claims.claim([ask("e")], take_over=False) == [Won(3, 0)]
    await place.close()
    await database.close()


async def claims_place_or_none(claims: Claims) -> str | None:
    try:
        return await claims.place()
    except Transient:
        return None


async def test_old_claims_and_burials_are_forgotten(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)
    claims = PostgresClaims(database, token="a", lease_seconds=0.0, window_seconds=0.0)
    await claims.claim([ask(f"e{i}") for i in range(10)], take_over=False)
    assert await claims.prune(batch=7) == 7
    assert await claims.prune(batch=7) == 3
    await claims.settle([ask(f"dead{i}") for i in range(9)], "dead")
    assert await claims.prune(batch=7) == 7
    assert await claims.prune(batch=7) == 2
    assert await claims.claim([ask("dead0")], take_over=False) == [Won(1, 0)]
    await database.close()


@pytest.mark.parametrize("noticed", [False, True])
def test_a_connection_to_redis_reset_beneath_the_library_is_made_anew(redis_url: str, noticed: bool) -> None:
    async def run() -> None:
        servers = OneRedis(redis_url)
        claims = RedisClaims(servers, token="a", group="g", lease_seconds=LEASE, window_seconds=600)
        await claims.place()
        for connection in servers.client.connection_pool._available_connections:  # noqa: SLF001  below the library
            connection._writer.transport.abort()  # noqa: SLF001
        if noticed:
            await asyncio.sleep(0)  # now they are closed, and no call has been made since
        assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]
        await claims.close()

    uvloop.run(run())


def test_a_defect_beneath_a_call_to_redis_is_no_lost_connection(redis_url: str) -> None:
    async def misuse() -> None:
        servers = OneRedis(redis_url)
        claims = RedisClaims(servers, token="a", group="g", lease_seconds=LEASE, window_seconds=600)
        await claims.place()
        used_next = servers.client.connection_pool._available_connections[-1]  # noqa: SLF001  below the library
        reading = asyncio.create_task(used_next.read_response())
        await asyncio.sleep(0)  # now it waits
        with pytest.raises(RuntimeError, match="another coroutine is already waiting"):
            await claims.claim([ask("e")], take_over=False)
        reading.cancel()
        await asyncio.wait([reading])
        await claims.close()

    uvloop.run(misuse())


async def test_groups_keep_their_claims_apart(database_url: str, redis_url: str) -> None:
    for one in ("g", "other"):
        database = Database(database_url, group=one)
        await migrate(database)
        redis = RedisClaims(redis_servers(redis_url), token=one, group=one, lease_seconds=LEASE, window_seconds=600)
        postgres = PostgresClaims(database, token=one, lease_seconds=LEASE, window_seconds=600)
        for claims in (redis, postgres):
            assert await claims.claim([ask("e")], take_over=False) == [Won(1, 0)]
        await redis.close()
        await database.close()
