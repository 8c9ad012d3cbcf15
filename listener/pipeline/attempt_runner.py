"""One attempt of a handler: it starts only while the claim is held, and counts only if it is still held at its end."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, assert_never

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.attempts import raised
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.effects import NO_EFFECTS, Effects
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import Event
from unlost.listener.core.facts import AttemptStarted, Facts, HandlerRan
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.effect_recorder import EffectRecorder
from unlost.listener.pipeline.event_tasks import EventTasks
from unlost.listener.pipeline.handlers import Call, Handler, HandlerRefused
from unlost.listener.pipeline.handlers import attempt as attempted
from unlost.listener.pipeline.policy import SLOW
from unlost.listener.pipeline.route_queues import IN_LINE, Attempt
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing, row_of
from unlost.listener.ports.rows import INSERTED, HandlerConnection, Rows, TransactionPipeline

Refuse = Callable[[Event], None]
"""Raises ``Permanent`` if no handler may run for an event."""
WEIGHT = 1 / 32
"""The weight of the latest attempt in the average: about a hundred attempts change it from slow to quick."""
MAY_RUN_PAUSE_SECONDS = 0.05


class ClaimLost(Exception):
    """The claim was found lost here, not reported through ``Handling.lose``. The event stands by again."""


class AttemptRunner:
    """Runs a handler of either form, in a task of the event."""

    def __init__(
        self,
        *,
        handler: Handler,
        manager: ClaimManager,
        store: Rows,
        storing: Storing,
        watch: StoreWatch,
        clocks: Clocks,
        facts: Facts,
        tasks: EventTasks,
        effects: EffectRecorder,
        refuse: Refuse | None = None,
    ) -> None:
        self._handler = handler
        self._manager = manager
        self._store = store
        self._storing = storing
        self._watch = watch
        self._clocks = clocks
        self._facts = facts
        self._tasks = tasks
        self._effects = effects
        self._refuse = refuse
        self.seconds = SLOW
        """The average duration of an attempt."""

    async def run(self, attempt: Attempt, transactions: TransactionPipeline | None) -> bool:
        """Run the handler, and pass the event on to its row. Return whether a handler ran.

        Raises ``Transient`` or ``Permanent`` if it failed, ``ClaimLost`` if another may own the event by now.
        """
        flight = attempt.flight
        await self._wait_until_it_may_run(flight, transactions)
        self._tasks.begin(flight.claim_id)
        if self._refuse is not None:
            self._refuse(flight.event)
        form, call, arguments = self._handler.prepare(flight, attempt.number)
        if form != "transaction" and transactions is not None:
            await transactions.rest()  # a handler that needs no connection must keep none
        match form:
            case "plain":
                await self._timed(attempt, call(*arguments))
                self.end(flight)
            case "transaction":
                await self._in_transaction(attempt, call, arguments, transactions)
            case "store":
                self.end(flight)
            case _:
                assert_never(form)
        return form != "store"

    def end(self, flight: InFlight) -> None:
        """Insert the row of an event whose handler has ended, or that has none."""
        flight.handled = True
        self._storing.put_all((flight,))

    async def _in_transaction(
        self,
        attempt: Attempt,
        call: Call,
        arguments: tuple[Any, ...],
        transactions: TransactionPipeline | None,
    ) -> None:
        flight = attempt.flight
        effects: Effects = getattr(arguments[0], "effects", NO_EFFECTS)

        async def work(connection: HandlerConnection) -> None:
            self._check_held(flight)  # the insert may have waited long for another transaction
            await self._timed(attempt, call(*arguments, connection))
            if recorded := effects.taken():
                await self._effects.record(connection, flight.event, recorded)
            self._check_held(flight)  # the lease may have ended meanwhile: another owner may run or have buried it

        row = row_of(flight)
        result = await self._store.insert_with(row, work, transactions)
        if result == INSERTED:
            self._effects.committed(len(effects.taken()))
        await self._storing.stored([flight], [result])

    async def _wait_until_it_may_run(self, flight: InFlight, transactions: TransactionPipeline | None) -> None:
        """Check the quorum rule and the claim a last time before the user's code runs."""
        while self._watch.error or not self._manager.may_run(flight.claim_id):
            self._check_held(flight)
            if transactions is not None:
                await transactions.rest()
            await asyncio.sleep(MAY_RUN_PAUSE_SECONDS)

    def _check_held(self, flight: InFlight) -> None:
        if not self._manager.leases.is_held(flight.claim_id):
            raise ClaimLost

    async def _timed(self, attempt: Attempt, work: Awaitable[None]) -> None:
        flight, queue = attempt.flight, attempt.queue
        began = self._clocks.monotonic()
        succeeded = False
        try:
            said = {"event_id": flight.event.event_id, "logger": self._handler.name}
            started = AttemptStarted(flight.event.event_id, queue.name, attempt.number)
            await attempted(work, timeout=queue.timeout, said=said, starts=partial(self._facts, started))
            succeeded = True
        except Transient as error:
            if queue.retry.kind_of(raised(error)) == "permanent":
                raise HandlerRefused(error) from error.__cause__
            raise
        finally:
            seconds = self._clocks.monotonic() - began
            of_one = seconds / IN_LINE if queue.is_in_line else seconds  # so many attempts end in this time
            self.seconds += (of_one - self.seconds) * WEIGHT
            self._facts(HandlerRan(flight.event.event_id, seconds, succeeded, queue.name, attempt.number))
            if not self._tasks.is_ours(flight.claim_id):
                raise asyncio.CancelledError  # the claim was lost: the handler's outcome no longer counts
