"""Stages of the pipeline, and its sink, for tests of another stage. Each keeps what it is given."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.errors import Transient
from unlost.listener.core.in_flight import End, InFlight
from unlost.listener.pipeline.key_order import KeyOrder
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.ports.rows import Result


class Returned:
    """For ``Standby``: keeps what ran out."""

    def __init__(self) -> None:
        self.lost: asyncio.Queue[InFlight] = asyncio.Queue()

    def ran_out(self, flight: InFlight) -> None:
        """See ``Standby``."""
        self.lost.put_nowait(flight)


class FakeIntake:
    """For ``Intake``: each event that ended is a segment of its own."""

    def __init__(self, log: list[object] | None = None) -> None:
        self.log = [] if log is None else log
        self.ends: dict[str, End] = {}
        self.order = KeyOrder()
        self._settled: list[ClaimRequest] = []

    def report_received(self) -> None:
        """Report nothing."""

    def rename(self, flight: InFlight, request: ClaimRequest) -> None:
        self.log.append(("rename", flight.claim_id, request))

    def finish(self, ended: Sequence[tuple[InFlight, End]]) -> None:
        self.ends |= {flight.claim_id: end for flight, end in ended}
        self._settled += [ClaimRequest(f"segment of {flight.claim_id}", b"") for flight, _ in ended]

    def settled(self, flights: Sequence[InFlight]) -> None:
        """Let nothing go: no event has a key."""

    def settled_segments(self) -> list[ClaimRequest]:
        names, self._settled = self._settled, []
        return names


class FakeWork:
    """For ``Work``: begins at once what it is given."""

    aside = 0
    seconds = 1.0
    in_runs = False

    def __init__(self, *, handled: bool = True, looks: bool = False, log: list[object] | None = None) -> None:
        self.handled = handled
        self.begun: list[str] = []
        self.log = [] if log is None else log
        self._looks = looks
        self._changed = asyncio.Event()

    def hold(self, routes: Mapping[str, str]) -> None:
        raise NotImplementedError

    def may_be_claimed_ahead(self, flight: InFlight) -> bool:
        return not self._looks

    def must_look_before(self, flight: InFlight) -> bool:
        return self._looks

    def admit(self, flights: Sequence[InFlight]) -> Sequence[InFlight]:
        return flights

    def start_all(self, flights: Sequence[InFlight]) -> None:
        self.begun += [flight.claim_id for flight in flights]
        self.log += [f"start {flight.claim_id}" for flight in flights]
        self._changed.set()

    start_suspects = start_all

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        self.log.append("alone")
        yield
        self.log.append("not alone")

    async def idle_of_suspects(self) -> None:
        self.log.append("settled")

    async def until(self, count: int) -> None:
        """Return once so many have begun."""
        async with asyncio.timeout(20):
            while len(self.begun) < count:
                self._changed.clear()
                await self._changed.wait()


class Ends:
    """For ``Storing``, ``Settling`` and ``SettledBefore``: where events end."""

    def __init__(self, log: list[object] | None = None) -> None:
        self.ids: list[str] = []
        """Those that become rows."""
        self.given_up: list[str] = []
        self.reasons: list[str] = []
        self.buried: dict[str, DeadLetterCause] = {}
        self.settled: list[tuple[str, bool]] = []
        """Those that were settled before, and whether their content was the same."""
        self.waiting: list[str] = []
        """Those that wait for their turn again."""
        self.dead: list[tuple[str, bool]] = []
        self.log = [] if log is None else log
        self._changed = asyncio.Event()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def put_all(self, flights: Sequence[InFlight]) -> None:
        self.ids += [flight.claim_id for flight in flights]
        self._changed.set()

    def done(self, ended: Sequence[tuple[InFlight, End]]) -> None:
        self.log += [(flight.claim_id, end) for flight, end in ended]
        self.put_all([flight for flight, _ in ended])

    def wait_again(self, run: Sequence[InFlight]) -> None:
        self.waiting += [flight.claim_id for flight in run]

    async def stored(self, flights: Sequence[InFlight], results: Sequence[Result]) -> None:
        self.put_all(flights)

    async def give_up(self, flight: InFlight, stage: str, reason: str = "exhausted") -> None:
        self.reasons.append(reason)
        self.given_up.append(flight.claim_id)
        self._changed.set()

    def bury(self, flight: InFlight, cause: DeadLetterCause) -> None:
        self.buried[flight.claim_id] = cause
        self.log.append((flight.claim_id, cause))
        self._changed.set()

    async def end(self, ended: Sequence[tuple[InFlight, bool]]) -> None:
        self.settled += [(flight.claim_id, same) for flight, same in ended]
        self._changed.set()

    async def end_buried(self, flight: InFlight, *, same: bool) -> None:
        self.dead.append((flight.claim_id, same))
        self._changed.set()

    async def until(self, count: int) -> None:
        """Return once so many have ended."""
        async with asyncio.timeout(30):
            while sum(map(len, (self.ids, self.given_up, self.buried, self.settled, self.dead))) < count:
                self._changed.clear()
                await self._changed.wait()


class FakeSink:
    """For ``DeadLetterSink``: keeps whose letters were written. If given ``full``: no room the first time."""

    def __init__(self, enough: int = 1, *, full: Callable[[], None] | None = None) -> None:
        self.buried: list[str] = []
        self.enough = asyncio.Event()
        self._count = enough
        self._full = full

    async def bury(self, flights: Sequence[InFlight]) -> Sequence[Burial]:
        if self._full is not None:
            self._full()
            self._full = None
            raise Transient("no room")
        self.buried += [flight.claim_id for flight in flights]
        if len(self.buried) >= self._count:
            self.enough.set()
        return [Burial(one.claim_id, one.event.digest, one.claim_id, order_key=one.order_key) for one in flights]
