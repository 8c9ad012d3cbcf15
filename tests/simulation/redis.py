"""A simulated Redis, and ``Claims`` in it: the rules of the scripts, repeated in Python.

It can restart with or without its memory, be flushed, and fail over to a replica that is a little behind.
"""

import copy
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from tests.simulation.hooks import Hooks
from tests.simulation.wire import Lost, Server, ServerLink
from tests.simulation.world import World
from unlost.listener.core.claim import (
    UNHANDLED,
    Answer,
    ClaimRequest,
    Dead,
    Done,
    Held,
    HeldClaim,
    Lapsed,
    Verdict,
    Won,
)
from unlost.listener.core.errors import Transient
from unlost.listener.core.store_mark import Remembered, StoreMark

T = TypeVar("T")
LATENCY = 0.0006


class Record(msgspec.Struct):
    """One claim in Redis: L leased, R released, D done, X dead."""

    state: str
    digest: bytes
    until: float = 0.0
    span: float = 0.0
    token: str = ""
    epoch: int = 0
    takeovers: int = 0
    alone: int = 0
    company: int = 0

    def runs(self, now: float) -> bool:
        """Whether this lease is valid. It is not if it ends later than any lease granted now: the clock went back."""
        self.until = min(self.until, now + self.span)
        return self.until > now

    def may_be_taken(self, together: int) -> bool:
        """Whether an owner that takes over this many at once may take it."""
        most = max(1, self.company // 2) if self.company else together
        return together == UNHANDLED or 0 < together <= most


Replica = tuple[dict[str, dict[str, Record]], dict[str, Remembered], str | None]
"""Claims, stores and mark."""


class RedisMemory:
    """The memory of one Redis, and the rules of the scripts."""

    def __init__(self, clock: Callable[[], float], hooks: Hooks) -> None:
        self._clock = clock
        self._hooks = hooks
        self._runs = 0
        self._marks = 0
        self.run_id = "r0"
        self.mark: str | None = None
        self.filed = ""
        """The name of the store for the current call."""
        self._files: dict[str, dict[str, Record]] = {}
        self.stores: dict[str, Remembered] = {}

    @property
    def records(self) -> dict[str, Record]:
        return self._files.setdefault(self.filed, {})

    def restart(self, *, empty: bool) -> None:
        self._runs += 1
        self.run_id = f"r{self._runs}"
        if empty:
            self.flush()

    def flush(self) -> None:
        self._files.clear()
        self.stores.clear()
        self.mark = None

    def copy(self) -> Replica:
        return copy.deepcopy(self._files), dict(self.stores), self.mark

    def become(self, replica: Replica) -> None:
        """Fail over to the state of the replica."""
        self._runs += 1
        self.run_id = f"r{self._runs}"
        self._files, self.stores, self.mark = replica

    def remember(self, store: StoreMark) -> Remembered | None:
        known = self.stores.get(store.generation)
        if known is None or known.version < store.version:
            self.stores[store.generation] = Remembered(store.version, store.name)
        return known

    def place(self) -> str:
        if self.mark is None:
            self._marks += 1
            self.mark = f"m{self._marks}"
        return f"{self.run_id}.{self.mark}"

    def named(self) -> str:
        return f"redis:{self.place()}" + (self.filed and f"@{self.filed}")

    def check(self, place: str) -> None:
        if place != f"{self.run_id}.{self.mark or ''}":
            raise Transient(f"PLACECHANGED this is {self.run_id}.{self.mark or ''}")

    def claim(self, token: str, lease: float, request: ClaimRequest, *, take_over: int, revive: bool) -> Answer:
        record = self.records.get(request.event_id)
        if record is None or (record.state == "X" and revive):
            return self._win(token, lease, request, HeldClaim(request.event_id, request.digest), take_over)
        same = record.digest == request.digest[:8]
        if record.state in "DX":
            return Done(same) if record.state == "D" else Dead(same)
        mine = record.state == "L" and record.token == token
        if record.state == "L" and not mine and record.runs(self._clock()):
            return Held(record.until - self._clock(), same)
        if (record.takeovers or (record.state == "L" and not mine)) and not (
            (mine and take_over) or record.may_be_taken(take_over)
        ):
            return Lapsed(same, record.company)
        return self._win(token, lease, request, self._inherited(record, request, mine=mine), take_over)

    def _inherited(self, record: Record, request: ClaimRequest, *, mine: bool) -> HeldClaim:
        lost = record.state == "L" and not mine
        alone = record.alone + (lost and record.company == 1)
        return HeldClaim(request.event_id, request.digest, record.epoch + (not mine), record.takeovers + lost, alone)

    def _win(self, token: str, lease: float, request: ClaimRequest, had: HeldClaim, take_over: int) -> Won:
        self._write(token, lease, msgspec.structs.replace(had, company=max(0, take_over)))
        self._hooks.granted(self.named(), token, request.event_id, won=True)
        return Won(had.epoch, had.takeovers, had.alone)

    def _write(self, token: str, lease: float, held: HeldClaim) -> None:
        self.records[held.event_id] = Record(
            "L", held.digest[:8], self._clock() + lease, lease, token, held.epoch, held.takeovers, held.alone,
            held.company,
        )  # fmt: skip

    def look(self, request: ClaimRequest) -> bool:
        record = self.records.get(request.event_id)
        return record is not None and record.state in "DX" and record.digest == request.digest[:8]

    def extend(self, token: str, lease: float, held: HeldClaim, *, replicate: bool) -> bool:
        record = self.records.get(held.event_id)
        mine = record is None
        if record is not None and record.state in "LR":
            free = record.state == "R" or not record.runs(self._clock())
            mine = (record.state == "L" and record.token == token) or (replicate and free)
            held = msgspec.structs.replace(
                held,
                epoch=max(held.epoch, record.epoch),
                takeovers=max(held.takeovers, record.takeovers),
                alone=max(held.alone, record.alone),
            )
        if mine:
            self._write(token, lease, held)
            self._hooks.granted(self.named(), token, held.event_id, won=False)
        return mine

    def settle(self, token: str, request: ClaimRequest | HeldClaim, verdict: Verdict) -> bool:
        record, state = self.records.get(request.event_id), "D" if verdict == "done" else "X"
        free = True
        if record is not None and record.state == "L":
            free = record.token == token or not record.runs(self._clock())
        elif record is not None and record.state == "D":
            free = state == "D"
        if free:
            self.records[request.event_id] = Record(state, request.digest[:8])
            self._hooks.announced(self.named(), token, request.event_id, verdict)
        return free

    def release(self, token: str, event_id: str) -> None:
        record = self.records.get(event_id)
        if record is not None and record.state == "L" and record.token == token:
            record.state, record.until, record.token = "R", self._clock(), ""


class SimulatedRedis(Server):
    """A Redis in the world."""

    def __init__(self, world: World, hooks: Hooks) -> None:
        super().__init__(world, "redis", latency=LATENCY)
        self.ahead = 0.0
        self.memory = RedisMemory(lambda: world.now + self.ahead, hooks)

    def turn_clock_back(self, seconds: float) -> None:
        """From now on, the times in its records are in the future."""
        self.ahead -= seconds

    def fail_over(self, *, behind: float) -> None:
        """A replica that is ``behind`` by some seconds takes over, after as many seconds."""
        replica = self.memory.copy()
        self.world.later(behind, self._promote, replica)

    def _promote(self, replica: Replica) -> None:
        self.memory.become(replica)
        self.touch()


class SimulatedRedisClaims:
    """``Claims`` in a simulated Redis. Like the real adapter, it retries a lost request once, at once."""

    def __init__(
        self, memory: RedisMemory, wire: ServerLink, *, token: str, lease_seconds: float, timeout: float = 0.3
    ) -> None:
        self._memory = memory
        self._wire = wire
        self._token = token
        self._lease = lease_seconds
        self._timeout = timeout
        self._place: str | None = None
        self._store = ""

    async def place(self) -> str:
        self._place = await self._asked("place", self._memory.place)
        return f"redis:{self._place}" + (self._store and f"@{self._store}")

    def file_under(self, store: str) -> None:
        self._store = store

    remembers_seconds = float("inf")
    forged = 0

    async def make_room(self) -> int:
        return 0

    async def remember(self, store: StoreMark) -> Remembered | None:
        what = f"remember {store.generation} {store.version}"
        return await self._asked(what, lambda: self._memory.remember(store))

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        return await self._each(
            f"redis claim{' over' if take_over else ''} {[a.event_id for a in requests]}",
            requests,
            lambda request: self._memory.claim(self._token, self._lease, request, take_over=take_over, revive=revive),
        )

    async def look(self, requests: Sequence[ClaimRequest]) -> list[bool]:
        names = [request.event_id for request in requests]
        store = self._store

        def apply() -> list[bool]:
            self._memory.filed = store
            return [self._memory.look(request) for request in requests]

        return await self._asked(f"redis look {names}", apply)

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        return await self._each(
            f"redis replicate {[k.event_id for k in held_claims]}",
            held_claims,
            lambda held: self._memory.extend(self._token, self._lease, held, replicate=True),
        )

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        return await self._each(
            f"redis renew {[k.event_id for k in held_claims]}",
            held_claims,
            lambda held: self._memory.extend(self._token, self._lease, held, replicate=False),
        )

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        return await self._each(
            f"redis {verdict} {[a.event_id for a in requests]}",
            requests,
            lambda request: self._memory.settle(self._token, request, verdict),
        )

    async def release(self, event_ids: Sequence[str]) -> None:
        await self._each(
            f"redis release {event_ids}", event_ids, lambda event_id: self._memory.release(self._token, event_id)
        )

    async def close(self) -> None:
        pass

    async def _each(self, what: str, items: Sequence[T], one: Callable[[T], object]) -> list:
        if not items:
            return []
        store = self._store
        if self._place is None:
            await self.place()
        place = self._place or ""

        def apply() -> list[object]:
            self._memory.check(place)
            self._memory.filed = store
            return [one(item) for item in items]

        return await self._asked(what, apply)

    async def _asked(self, what: str, apply: Callable[[], T]) -> T:
        try:
            return await self._wire.ask(what, apply, timeout=self._timeout)
        except Lost:
            pass
        try:
            return await self._wire.ask(what, apply, timeout=self._timeout)
        except Lost as error:
            raise Transient(f"{what}: {error}") from error
