"""Workers: how many handlers run at once, and what happens to an event that fails, waits, or is lost."""

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.support.claims import FakeManager
from tests.support.handling import FakeHandler, Routed, handling_with
from tests.support.rows import FakeRows
from tests.support.stand_ins import flights
from unlost.listener.core.attempts import AttemptPolicy, Backoff
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline import handler_threads
from unlost.listener.pipeline.handlers import FunctionHandler, InThread, Prepared
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.policy import Policy
from unlost.listener.ports.rows import SAME_ROW, HandlerConnection, NewRow, Result, TransactionPipeline

OF_AN_EVENT = contextvars.ContextVar("OF_AN_EVENT", default="")


async def test_so_many_run_at_once_and_all_in_their_turn() -> None:
    work, ids = FakeHandler(at_once=True), [f"e{number}" for number in range(20)]
    async with handling_with(work) as (handling, put):
        handling.start_all(flights(*ids))
        await put.until(20)
    assert (sorted(put.ids), work.begun, work.most) == (sorted(ids), ids, 2)


class Threaded:
    """A function that runs in a thread. It returns at once, or waits for ``go_on`` while ``blocks`` is set."""

    def __init__(self) -> None:
        self.blocks = False
        self.go_on = threading.Event()
        self.running = self.most = 0
        self.begun: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, delivery: Delivery) -> None:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.begun.append(delivery.event_id)
        if self.blocks:
            self.go_on.wait(20)
        with self._lock:
            self.running -= 1


async def test_quick_calls_wait_in_line_for_a_thread_and_no_more_run_at_once_if_they_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handler_threads, "QUICK", 3600.0)
    function = Threaded()
    handler = FunctionHandler("h", "plain", InThread(function))
    policy = Policy(handle_concurrency=2, handle_timeout=0.5, handle_attempts=1)
    async with handling_with(FakeHandler(), handler=handler, policy=policy) as (handling, put), asyncio.timeout(20):
        handling.start_all(flights(*[f"quick{number}" for number in range(20)]))
        await put.until(20)
        assert function.most <= 2
        function.blocks = True
        handling.start_all(flights(*[f"blocks{number}" for number in range(20)]))
        while len(function.begun) < 22:  # noqa: ASYNC110  a thread appends
            await asyncio.sleep(0.001)
        assert len(await handling.stop(begun=False)) == 12, "two run, six are in line"
        assert function.running == 2
        function.blocks = False
        function.go_on.set()
        await put.until(28)
    assert function.most == 2


async def test_the_time_in_line_counts_against_no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "QUICK", 3600.0)

    def take_a_while(delivery: Delivery) -> None:
        time.sleep(0.0 if delivery.event_id.startswith("quick") else 0.4)

    handler = FunctionHandler("h", "plain", InThread(take_a_while))
    policy = Policy(handle_concurrency=1, handle_timeout=0.8, handle_attempts=1)
    async with handling_with(FakeHandler(), handler=handler, policy=policy) as (handling, put):
        handling.start_all(flights(*[f"quick{number}" for number in range(20)]))
        await put.until(20)
        handling.start_all(flights(*"abcd"))
        await put.until(24)
        assert put.given_up == []


async def test_those_in_line_keep_no_other_route_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_threads, "QUICK", 3600.0)
    function, work = Threaded(), FakeHandler()
    call = InThread(function)
    policies = AttemptPolicy("quick", line=call.line), AttemptPolicy("other")

    async def either(delivery: Delivery) -> None:
        await (call if delivery.event_id.startswith("quick") else work)(delivery)

    handler = Routed(either, lambda event: policies[not event.event_id.startswith("quick")], policies)
    policy = Policy(handle_concurrency=2, handle_attempts=1)
    async with handling_with(work, handler=handler, policy=policy) as (handling, put), asyncio.timeout(20):
        handling.start_all(flights(*[f"quick{number}" for number in range(20)]))
        await put.until(20)
        function.blocks = True
        handling.start_all(flights(*[f"quick{number}" for number in range(20, 40)], *"abc"))
        await work.until(lambda: len(work.running) == 2)
        assert work.running == ["a", "b"], "no more of them than may run at once"
        function.go_on.set()
        for one in "abc":
            work.let_go(one)
        await put.until(43)


async def test_an_event_that_waits_for_its_next_attempt_holds_no_worker() -> None:
    work = FakeHandler(fails={"a": 1, "b": 2})
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


async def test_an_event_that_waits_for_an_outage_to_end_keeps_its_worker() -> None:
    work = FakeHandler(at_once=True, fails={"a": 1})
    async with handling_with(work, outages=1) as (handling, put):
        handling.start_all(flights("a"))
        await work.until(lambda: work.begun == ["a"])
        async with handling.alone():
            assert work.begun == ["a", "a"], "the attempt in the outage was repeated first"
            handling.start_suspects(flights("s"))
            await put.until(1)
        await put.until(2)
    assert (work.begun, put.ids) == (["a", "a", "s", "a"], ["s", "a"]), "in its pause it keeps no suspect waiting"


async def test_a_handled_event_is_not_handled_again_when_it_is_won_again() -> None:
    work = FakeHandler(at_once=True)
    async with handling_with(work) as (handling, put):
        (a,) = flights("a")
        handling.start_all([a])
        await put.until(1)
        handling.start_all([a])
        await put.until(2)
        assert (put.ids, work.begun) == (["a", "a"], ["a"])


async def test_a_lost_claim_ends_its_own_event_alone() -> None:
    work = FakeHandler()
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
    work, manager = FakeHandler(), FakeManager()
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
    work = FakeHandler()
    async with handling_with(work) as (handling, _):
        handling.start_all(flights(*"abcd"))
        await work.until(lambda: work.running == ["a", "b"])
        assert await handling.stop(begun=False) == ["c", "d"]
        assert work.running == ["a", "b"]
        assert sorted(await handling.stop(begun=True)) == ["a", "b"]
        assert not work.running


async def test_an_event_that_is_stopped_in_its_pause_leaves_the_lane() -> None:
    work = FakeHandler(at_once=True, fails={"a": 2})
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


async def test_context_variables_of_a_handler_belong_to_its_event() -> None:
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
                raise ValueError("something else") from None

    async with handling_with(handle) as (handling, put):
        for [lost], start in ((flights("a"), handling.start_all), (flights("s"), handling.start_suspects)):
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


class Following(FakeRows):
    """Keeps of each event whether another one follows in the same pipeline, asked at the end of its transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.follows: dict[str, bool] = {}

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[HandlerConnection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        await work(object())
        assert transactions is not None
        self.follows[row.event.event_id] = transactions.more()
        return SAME_ROW


async def test_a_connection_is_kept_for_the_next_event_only_if_one_waits_and_no_other_worker_is_free() -> None:
    work, rows = FakeHandler(), Following()

    async def in_transaction(delivery: Delivery, _: HandlerConnection) -> None:
        await work(delivery)

    handler = FunctionHandler("h", "transaction", in_transaction)
    async with handling_with(work, handler=handler, rows=rows) as (handling, put):
        handling.start_all(flights(*"abc"))
        await work.until(lambda: work.running == ["a", "b"])
        work.let_go("b")
        await work.until(lambda: work.running == ["a", "c"])
        work.let_go("c")
        await put.until(2)
        work.let_go("a")
        await put.until(3)
    assert rows.follows == {"b": True, "c": False, "a": False}


async def test_a_connection_is_kept_for_the_next_event_of_the_key_although_other_workers_are_free() -> None:
    work, rows = FakeHandler(at_once=True), Following()

    async def in_transaction(delivery: Delivery, _: HandlerConnection) -> None:
        await work(delivery)

    handler, first = FunctionHandler("h", "transaction", in_transaction), lambda flight: flight.claim_id == "first"
    async with handling_with(work, handler=handler, rows=rows, another_follows=first) as (handling, put):
        handling.start_all(flights("first", "last"))
        await put.until(2)
    assert rows.follows == {"first": True, "last": False}


class Keeping(FakeRows):
    """Begins the next transaction with each commit, whoever follows."""

    def __init__(self) -> None:
        super().__init__()
        self.given_back = 0

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[HandlerConnection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        await work(object())
        assert transactions is not None
        transactions.kept = self
        return SAME_ROW

    async def give_back(self) -> None:
        self.given_back += 1


class Continuing(Keeping):
    """After the first commit, queues one event or two, as when the turn of a key comes; counts the tasks that begin."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names
        self.handling: Handling | None = None
        self.started: list[int] = []

    async def insert_with(
        self,
        row: NewRow,
        work: Callable[[HandlerConnection], Awaitable[None]],
        transactions: TransactionPipeline | None = None,
    ) -> Result:
        result = await super().insert_with(row, work, transactions)
        if not self.started and self.handling is not None:
            before = len(asyncio.all_tasks())
            self.handling.start_all(flights(*self.names))
            self.started.append(len(asyncio.all_tasks()) - before)
        return result


@pytest.mark.parametrize(("names", "started"), [(("next",), 0), (("next", "other"), 1)])
async def test_a_worker_that_has_kept_its_connection_takes_the_next_event_itself(
    names: tuple[str, ...], started: int
) -> None:
    rows, handled = Continuing(*names), list[str]()

    async def handle(delivery: Delivery, _: HandlerConnection) -> None:
        handled.append(delivery.event_id)

    handler = FunctionHandler("h", "transaction", handle)
    async with handling_with(FakeHandler(), handler=handler, rows=rows) as (handling, put):
        rows.handling = handling
        handling.start_all(flights("first"))
        await put.until(1 + len(names))
    assert (handled, rows.started) == (["first", *names], [started])


class Mixed(FunctionHandler):
    """Events whose names begin with "t" are handled in the transaction of their row."""

    def prepare(self, flight: InFlight, number: int) -> Prepared:
        _, call, arguments = super().prepare(flight, number)
        return "transaction" if flight.claim_id.startswith("t") else "plain", call, arguments


async def test_no_connection_is_kept_while_a_handler_runs_that_needs_none() -> None:
    rows, given_back = Keeping(), dict[str, int]()

    async def handle(delivery: Delivery, connection: HandlerConnection = None) -> None:
        given_back[delivery.event_id] = rows.given_back

    one = Policy(handle_concurrency=1)
    async with handling_with(handle, handler=Mixed("h", "plain", handle), rows=rows, policy=one) as (handling, put):
        handling.start_all(flights("t1", "t2", "plain"))
        await put.until(3)
    assert given_back == {"t1": 0, "t2": 0, "plain": 1}


async def test_a_random_number_decides_how_much_of_a_pause_is_taken() -> None:
    work = FakeHandler(at_once=True, fails={"a": 1})
    policy = AttemptPolicy("h", retry=Backoff(first=400.0))
    handler = Routed(work, lambda _: policy, (policy,))
    async with handling_with(work, handler=handler, monotonic=lambda: 0.0, rng=lambda: 0.5) as (handling, _):
        handling.start_all(flights("a"))
        async with asyncio.timeout(20):
            while not handling.next_retries(1):  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert [one.seconds for one in handling.next_retries(1)] == [300.0]
