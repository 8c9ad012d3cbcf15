"""Handling: runs the user's code within limits of time, attempts and number, for both forms of handler."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Coroutine, Sequence
from typing import NamedTuple

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Permanent, Reject, Transient
from unlost.listener.core.facts import Facts, HandlerRan
from unlost.listener.core.in_flight import InFlight, delivery_of
from unlost.listener.pipeline.exclusive_gate import ExclusiveGate
from unlost.listener.pipeline.failures import Failures
from unlost.listener.pipeline.handlers import Handler, attempt
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.standby import Standby
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.ports import rows
from unlost.listener.ports.rows import Connection, Rows, TransactionPipeline

MAY_RUN_PAUSE_SECONDS = 0.05
STOP_SECONDS = 1.0
"""How long a cancelled handler may take to clean up."""


class WaitingAttempt(NamedTuple):
    """An event that waits for a worker, and the number of its attempt. ``entered``: it is inside the gate already."""

    flight: InFlight
    number: int
    entered: bool


class Handling:
    """Runs a handler of either form.

    Up to ``handle_concurrency`` workers take waiting events, one after another, and end when none waits: starting a
    worker costs more than many events. Three things have tasks of their own: the pause before another attempt, the end
    of the last attempt, and every suspect.
    """

    handled = True

    def __init__(
        self,
        *,
        handler: Handler,
        manager: ClaimManager,
        store: Rows,
        storing: Storing,
        watch: StoreWatch,
        settling: Settling,
        standby: Standby,
        policy: Policy,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        self.must_look_before = handler.form == "plain"
        self._handler = handler
        self._manager = manager
        self._store = store
        self._storing = storing
        self._watch = watch
        self._failures = Failures(
            "handle",
            watch=watch,
            attempts=policy.handle_attempts,
            delay=policy.handle_delay,
            clocks=clocks,
            facts=facts,
        )
        self._settling = settling
        self._standby = standby
        self._policy = policy
        self._clocks = clocks
        self._facts = facts
        self._gate = ExclusiveGate(opened=self._start_workers)
        self.alone = self._gate.alone
        self._waiting: OrderedDict[str, WaitingAttempt] = OrderedDict()
        self._workers: set[asyncio.Task[None]] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        self._suspects: set[asyncio.Task[None]] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._ending = False

    async def run(self) -> None:
        """Handle until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                await self._storing.run()
            finally:
                self._ending = True

    def start_all(self, flights: Sequence[InFlight]) -> None:
        """Queue the first attempts of these."""
        for flight in flights:
            if flight.handled:
                self._storing.put_all((flight,))
            else:
                self._waiting[flight.claim_id] = WaitingAttempt(flight, 1, entered=False)
                self._start_worker()

    def start_suspects(self, flights: Sequence[InFlight]) -> None:
        """Start these at once. The caller passes no more than may run at once."""
        for flight in flights:
            task = self._in_own_task(flight, self._handle_suspect(flight))
            self._suspects.add(task)
            task.add_done_callback(self._suspects.discard)

    async def idle_of_suspects(self) -> None:
        """Return once no suspect runs, including those whose task has not started yet."""
        while self._suspects:
            await asyncio.wait(self._suspects)

    async def stop(self, *, begun: bool) -> list[str]:
        """Cancel handlers and wait until they have ended. Only then may their claims be released."""
        stopped = [id_ for id_, waiting in self._waiting.items() if begun or not waiting.entered]
        for claim_id in stopped:
            self._take_out(claim_id)
        stopping = {id_: task for id_, task in self._running.items() if begun or id_ not in self._begun}
        for task in stopping.values():
            task.cancel()
        if stopping:
            await asyncio.wait(stopping.values(), timeout=STOP_SECONDS)
        return stopped + [claim_id for claim_id, task in stopping.items() if task.done()]

    def lose(self, flight: InFlight) -> bool:
        """Cancel the handler of an event whose claim is lost."""
        if flight.claim_id in self._waiting:
            self._take_out(flight.claim_id)
            return True
        task = self._running.pop(flight.claim_id, None)
        self._begun.discard(flight.claim_id)
        return task is not None and task.cancel()

    # -- workers --------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        """Start workers for all events that waited while the gate was closed to fresh events."""
        for _ in range(len(self._waiting)):
            self._start_worker()

    def _start_worker(self) -> None:
        if not self._ending and len(self._workers) < self._policy.handle_concurrency and self._next_attempt():
            task = self._new_task(self._worker(), "worker")
            self._workers.add(task)
            task.add_done_callback(self._worker_ended)

    def _worker_ended(self, task: asyncio.Task[None]) -> None:
        """Replace a worker: it may have been cancelled with an event whose claim was lost, while others wait."""
        self._workers.discard(task)
        if not task.cancelled() and task.exception():
            self._ending = True
        self._start_worker()

    async def _worker(self) -> None:
        task, transactions = _this_task(), TransactionPipeline(self._another_waits)
        try:
            while not task.cancelling() and (waiting := self._next_attempt()):  # a handler may swallow it
                del self._waiting[waiting.flight.claim_id]
                await self._take(waiting, transactions)
        finally:
            await transactions.rest()

    def _another_waits(self) -> bool:
        """Return whether an event waits for this worker: all others are busy too."""
        return len(self._workers) == self._policy.handle_concurrency and self._next_attempt() is not None

    def _next_attempt(self) -> WaitingAttempt | None:
        """Return the next event to run. Those that have begun go on; fresh ones wait while the gate is closed."""
        waiting = next(iter(self._waiting.values()), None)
        return None if waiting and not waiting.entered and self._gate.closed else waiting

    def _take_out(self, claim_id: str) -> None:
        waiting = self._waiting.pop(claim_id)
        self._begun.discard(claim_id)
        if waiting.entered:
            self._gate.leave()

    async def _take(self, waiting: WaitingAttempt, transactions: TransactionPipeline) -> None:
        """Run one attempt of a fresh event. The event stays inside the gate until its last attempt."""
        flight, number = waiting.flight, waiting.number
        claim_id = flight.claim_id  # a conflict gives the event another claim
        self._running[claim_id] = task = _this_task()
        if not waiting.entered:
            self._gate.enter()
        goes_on = False
        began = self._clocks.monotonic()
        try:
            await self._one_attempt(flight, number, transactions)
        except Reject as error:
            self._reject(flight, error)
        except (Transient, Permanent) as error:
            goes_on = True
            after = self._in_own_task(flight, self._after_failure(flight, number, error, began))
            after.add_done_callback(self._stopped_after_failure)
        except _ClaimLost:
            self._standby.ran_out(flight)
        finally:
            if not goes_on:
                self._gate.leave()
            self._forget(claim_id, task)

    async def _after_failure(self, flight: InFlight, number: int, error: Transient | Permanent, began: float) -> None:
        following = await self._failures.following(flight, number, error, began)
        if following is None:
            self._gate.leave()
            self._in_own_task(flight, self._give_up(flight, error))
            return
        self._waiting[flight.claim_id] = WaitingAttempt(flight, following, entered=True)
        self._waiting.move_to_end(flight.claim_id, last=False)
        self._start_worker()

    def _reject(self, flight: InFlight, error: Reject) -> None:
        self._failures.keep(flight, error, retried=False)
        self._settling.bury(flight, DeadLetterCause("rejected", "handle"))

    async def _give_up(self, flight: InFlight, error: Transient | Permanent) -> None:
        if isinstance(error, Permanent):
            self._settling.bury(flight, DeadLetterCause("rejected", "handle"))
        else:
            await self._storing.give_up(flight, "handle")

    def _stopped_after_failure(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # it may not even have started
            self._gate.leave()

    # -- tasks of their own ---------------------------------------------------------------------

    def _in_own_task(self, flight: InFlight, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        claim_id = flight.claim_id
        task = self._new_task(work, f"handle {claim_id[:64]}")
        self._running[claim_id] = task
        task.add_done_callback(lambda done: self._forget(claim_id, done))
        return task

    def _new_task(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        assert self._tasks is not None, "run() must be running"
        return self._tasks.create_task(work, name=name)

    def _forget(self, claim_id: str, task: asyncio.Task[None]) -> None:
        if self._running.get(claim_id) is task:
            del self._running[claim_id]
            self._begun.discard(claim_id)

    async def _handle_suspect(self, flight: InFlight) -> None:
        try:
            if flight.handled:
                self._storing.put_all((flight,))
            else:
                await self._attempts_alone(flight)
            await self._until_settled(flight)
        except Reject as error:
            self._reject(flight, error)
        except (Transient, Permanent) as error:
            await self._give_up(flight, error)
        except _ClaimLost:
            self._standby.ran_out(flight)

    async def _attempts_alone(self, flight: InFlight) -> None:
        """Return once an attempt has succeeded; raise the last one's error."""
        number = 1
        while True:
            began = self._clocks.monotonic()
            try:
                return await self._one_attempt(flight, number, None)
            except Reject:
                raise
            except (Transient, Permanent) as error:
                following = await self._failures.following(flight, number, error, began)
                if following is None:
                    raise
                number = following

    async def _until_settled(self, flight: InFlight) -> None:
        """Wait until this event is settled. If the next suspect killed us first, this would be a suspect again."""
        self._running.pop(flight.claim_id, None)  # storing has it now: a lost claim sends it nowhere else
        self._begun.discard(flight.claim_id)
        await self._manager.leases.wait_gone(flight.claim_id)

    # -- attempts -------------------------------------------------------------------------------

    async def _one_attempt(self, flight: InFlight, number: int, transactions: TransactionPipeline | None) -> None:
        await self._wait_until_it_may_run(flight, transactions)
        self._begun.add(flight.claim_id)
        delivery = delivery_of(flight, number)
        if self._handler.form == "plain":
            await self._timed(flight, self._handler.call(delivery))
            flight.handled = True
            self._storing.put_all((flight,))
        else:
            await self._in_transaction(flight, delivery, transactions)

    async def _in_transaction(
        self, flight: InFlight, delivery: Delivery, transactions: TransactionPipeline | None
    ) -> None:
        async def work(connection: Connection) -> None:
            self._check_held(flight)  # the insert may have waited long for another transaction
            await self._timed(flight, self._handler.call(delivery, connection))
            self._check_held(flight)  # the lease may have ended meanwhile: another owner may run or have buried it

        row = rows.NewRow(flight.event, flight.epoch, len(flight.attempts) + 1, flight.received_at)
        await self._storing.stored([flight], [await self._store.insert_with(row, work, transactions)])

    async def _wait_until_it_may_run(self, flight: InFlight, transactions: TransactionPipeline | None) -> None:
        """Check the quorum rule and the claim for the last time before the user's code runs."""
        while self._watch.error or not self._manager.may_run(flight.claim_id):
            self._check_held(flight)
            if transactions is not None:
                await transactions.rest()
            await asyncio.sleep(MAY_RUN_PAUSE_SECONDS)

    def _check_held(self, flight: InFlight) -> None:
        if not self._manager.leases.is_held(flight.claim_id):
            raise _ClaimLost

    async def _timed(self, flight: InFlight, work: Awaitable[None]) -> None:
        started = self._clocks.monotonic()
        succeeded = False
        try:
            said = {"event_id": flight.event.event_id, "logger": self._handler.name}
            await attempt(work, timeout=self._policy.handle_timeout, said=said)
            succeeded = True
        finally:
            seconds = self._clocks.monotonic() - started
            self._facts(HandlerRan(flight.event.event_id, seconds, succeeded))
            if self._ending or self._running.get(flight.claim_id) is not _this_task():
                raise asyncio.CancelledError  # the claim was lost: the handler's outcome no longer counts


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None
    return task


class _ClaimLost(Exception):
    """The claim is found lost here, not reported through ``lose``: the event goes back to stand by."""
