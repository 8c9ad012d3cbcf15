"""Workers: how many handlers run at once, and what happens to an event that fails, waits, or is lost."""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tests.support.stages import Returned
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.policy import Policy

OF_AN_EVENT = contextvars.ContextVar("OF_AN_EVENT", default="")
POLICY = Policy(handle_concurrency=2, handle_attempts=2, handle_delay=0.01)


class Held:
    """A stand-in for the claim manager and its leases: everything is held and may run, until it is lost."""

    def __init__(self) -> None:
        self.gone: dict[str, asyncio.Event] = {}
        self.leases = self

    def may_run(self, _: str) -> bool:
        return True

    def is_held(self, _: str) -> bool:
        return True

    async def wait_gone(self, claim_id: str) -> None:
        await self.gone.setdefault(claim_id, asyncio.Event()).wait()


class Put:
    """A stand-in for storing: keeps what it is given, and what is given up."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.given_up: list[str] = []
        self._changed = asyncio.Event()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def put_all(self, flights: Sequence[InFlight]) -> None:
        self.ids += [flight.claim_id for flight in flights]
        self._changed.set()

    async def give_up(self, flight: InFlight, _: str) -> None:
        self.given_up.append(flight.claim_id)
        self._changed.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.ids) + len(self.given_up) < count:
                self._changed.clear()
                await self._changed.wait()


class Watch:
    """A stand-in for the watch: this many failures fall into an outage, and do not count."""

    error = ""

    def __init__(self, outages: int = 0) -> None:
        self.outages = outages

    async def counts(self, *_: object) -> bool:
        self.outages -= 1
        return self.outages < 0


class Work:
    """A handler whose events run until released, or fail as often as the test says."""

    def __init__(self, *, at_once: bool = False, fails: dict[str, int] | None = None) -> None:
        self.running: list[str] = []
        self.begun: list[str] = []
        self.most = 0
        self._fails = fails or {}
        self._at_once = at_once
        self._go: dict[str, asyncio.Event] = {}
        self._changed = asyncio.Event()

    async def __call__(self, delivery: Delivery) -> None:
        id_ = delivery.event_id
        self.begun.append(id_)
        self.running.append(id_)
        self.most = max(self.most, len(self.running))
        self._changed.set()
        try:
            if not self._at_once:
                await self._go.setdefault(id_, asyncio.Event()).wait()
            await asyncio.sleep(0)
            if self._fails.get(id_, 0) >= delivery.attempt:
                raise ValueError("as told")
        finally:
            self.running.remove(id_)

    def let_go(self, id_: str) -> None:
        self._go.setdefault(id_, asyncio.Event()).set()

    async def until(self, seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not seen():
                self._changed.clear()
                await self._changed.wait()


def flights(*ids: str) -> list[InFlight]:
    frames = [f'{{"event_id": "{id_}", "payload": 1}}'.encode() for id_ in ids]
    return [flight_of(parse(frame, max_bytes=100), frame, None, 0.0, 0.0) for frame in frames]


@asynccontextmanager
async def handling_with(
    work: Callable[[Delivery], Awaitable[None]], manager: Held | None = None, outages: int = 0
) -> AsyncIterator[tuple[Handling, Put]]:
    put = Put()
    handling = Handling(
        handler=Handler("h", "plain", work), manager=cast("Any", manager or Held()), store=cast("Any", FakeRows()),
        storing=cast("Any", put), watch=cast("Any", Watch(outages)), settling=cast("Any", None),
        standby=cast("Any", Returned()), policy=POLICY, clocks=Clocks(lambda: 0.0, lambda: 0.0), facts=lambda _: None,
    )  # fmt: skip
    running = asyncio.create_task(handling.run())
    await asyncio.sleep(0)
    yield handling, put
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


class FakeRows:
    """A plain handler does not query the table."""


async def test_so_many_run_at_once_and_all_in_their_turn() -> None:
    work, ids = Work(at_once=True), [f"e{number}" for number in range(20)]
    async with handling_with(work) as (handling, put):
        handling.start_all(flights(*ids))
        await put.until(20)
    assert (sorted(put.ids), work.begun, work.most) == (sorted(ids), ids, 2)


async def test_whoever_waits_for_another_attempt_keeps_nobody_from_running() -> None:
    work = Work(fails={"a": 1, "b": 2})
    async with handling_with(work) as (handling, put):
        for id_ in "abcd":
            work.let_go(id_)
        handling.start_all(flights(*"abcd"))
        await put.until(4)
        assert (sorted(put.ids), put.given_up) == (["a", "c", "d"], ["b"])
    assert work.begun[:4] == ["a", "b", "c", "d"], "the others run in the pauses"
    assert work.most == 2


@pytest.mark.parametrize("suspect", [False, True])
async def test_a_failure_in_an_outage_is_no_attempt(suspect: bool) -> None:
    numbers: list[int] = []

    async def handle(delivery: Delivery) -> None:
        numbers.append(delivery.attempt)
        raise ConnectionError("the same server, perhaps")

    async with handling_with(handle, outages=3) as (handling, put):
        (a,) = flights("a")
        (handling.start_suspects if suspect else handling.start_all)([a])
        await put.until(1)
        assert put.given_up == ["a"]
        assert (numbers, len(a.attempts)) == ([1, 1, 1, 1, 2], 2)


async def test_whoever_waits_for_the_end_of_an_outage_stays_in_its_lane() -> None:
    work = Work(at_once=True, fails={"a": 1})
    async with handling_with(work, outages=1) as (handling, put):
        handling.start_all(flights("a"))
        await work.until(lambda: work.begun == ["a"])
        async with handling.alone():
            handling.start_suspects(flights("s"))
            await put.until(2)
    assert (work.begun, put.ids) == (["a", "a", "a", "s"], ["a", "s"])


async def test_whose_handler_has_succeeded_is_not_handled_again_when_its_claim_is_won_again() -> None:
    work = Work(at_once=True)
    async with handling_with(work) as (handling, put):
        (a,) = flights("a")
        handling.start_all([a])
        await put.until(1)
        handling.start_all([a])
        await put.until(2)
        assert (put.ids, work.begun) == (["a", "a"], ["a"])


async def test_a_lost_claim_ends_its_own_event_alone() -> None:
    work = Work()
    async with handling_with(work) as (handling, put):
        a, b, c, d = flights(*"abcd")
        handling.start_all([a, b, c, d])
        await work.until(lambda: work.running == ["a", "b"])
        assert handling.lose(a)
        assert handling.lose(c), "it had not begun"
        assert not handling.lose(c)
        await work.until(lambda: "d" in work.running)
        work.let_go("b")
        work.let_go("d")
        await put.until(2)
    assert (sorted(put.ids), work.begun) == (["b", "d"], ["a", "b", "d"])


async def test_suspects_run_together_and_nothing_else_does() -> None:
    work, manager = Work(), Held()
    async with handling_with(work, manager) as (handling, put):
        handling.start_all(flights("a"))
        await work.until(lambda: work.running == ["a"])
        asyncio.get_running_loop().call_soon(work.let_go, "a")
        async with handling.alone():
            assert work.running == []
            handling.start_all(flights("b"))
            handling.start_suspects(flights("s", "t"))
            await work.until(lambda: work.running == ["s", "t"])
            work.let_go("s")
            work.let_go("t")
            await put.until(3)
            assert work.begun == ["a", "s", "t"], "until they are settled"
            manager.gone["s"].set()
            manager.gone["t"].set()
            await handling.idle_of_suspects()
            assert work.begun == ["a", "s", "t"]
        await work.until(lambda: work.running == ["b"])
        work.let_go("b")
        await put.until(4)


async def test_a_stop_gives_back_what_has_not_begun_and_then_all() -> None:
    work = Work()
    async with handling_with(work) as (handling, _):
        handling.start_all(flights(*"abcd"))
        await work.until(lambda: work.running == ["a", "b"])
        assert await handling.stop(begun=False) == ["c", "d"]
        assert work.running == ["a", "b"]
        assert sorted(await handling.stop(begun=True)) == ["a", "b"]
        assert not work.running


async def test_an_event_that_is_stopped_in_its_pause_leaves_the_lane() -> None:
    work = Work(at_once=True, fails={"a": 2})
    async with handling_with(work) as (handling, put):
        (a,) = flights("a")
        handling.start_all([a])
        await work.until(lambda: work.begun == ["a"])
        while work.running:  # noqa: ASYNC110  one iteration of the loop, and it pauses
            await asyncio.sleep(0)
        assert handling.lose(a)
        async with handling.alone():
            handling.start_suspects(flights("s"))
            await put.until(1)
        assert put.ids == ["s"]


async def test_what_a_handler_sets_in_its_context_is_its_own_events() -> None:
    seen: list[str] = []

    async def handle(delivery: Delivery) -> None:
        seen.append(OF_AN_EVENT.get())
        OF_AN_EVENT.set(delivery.event_id)
        await asyncio.sleep(0)
        assert OF_AN_EVENT.get() == delivery.event_id

    async with handling_with(handle) as (handling, put):
        handling.start_all(flights(*"abcd"))
        await put.until(4)
    assert (seen, put.given_up) == ([""] * 4, [])


async def test_a_handler_whose_own_work_was_cancelled_has_failed() -> None:
    """The event itself was not cancelled. If it were taken for that, nothing would end it."""

    async def handle(delivery: Delivery) -> None:
        theirs = asyncio.get_running_loop().create_future()
        theirs.cancel()
        await theirs

    async with handling_with(handle) as (handling, put):
        handling.start_all(flights("a"))
        handling.start_suspects(flights("s"))
        await put.until(2)
    assert sorted(put.given_up) == ["a", "s"]


async def test_a_lost_claim_ends_an_event_whatever_its_handler_makes_of_that() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600 if delivery.event_id in "as" else 0)
        except asyncio.CancelledError:
            ended.set()
            if delivery.event_id == "s":
                raise ValueError("told otherwise") from None

    async with handling_with(handle) as (handling, put):
        for lost, start in ((*flights("a"), handling.start_all), (*flights("s"), handling.start_suspects)):
            begun.clear()
            ended.clear()
            start([lost])
            await begun.wait()
            assert handling.lose(lost)
            await ended.wait()
        handling.start_all(flights("b"))
        await put.until(1)
        assert (put.ids, put.given_up) == (["b"], []), "the listener that lost it stands by, and must not end it, too"


async def test_at_the_end_a_hand_takes_nothing_more_whatever_its_handler_makes_of_that() -> None:
    ran: list[str] = []
    begun = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        ran.append(delivery.event_id)
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600 if delivery.event_id == "a" else 0)

    async with handling_with(handle) as (handling, _):
        handling.start_all(flights("a"))
        await begun.wait()
        closing = asyncio.create_task(handling.alone().__aenter__())  # their gate is closed until "a" has ended
        await asyncio.sleep(0)
        handling.start_all(flights(*"bcd"))
    closing.cancel()
    assert ran == ["a"]
