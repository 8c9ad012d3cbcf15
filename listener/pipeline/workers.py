"""Workers: tasks that take waiting attempts one after another, and end when none may start.

Starting a worker costs more than many events, so there is none for each event. The transactions of one worker follow
each other on one connection, see ``TransactionPipeline``. A worker whose attempt stands in line for a thread runs
nothing, so it does not count: the line bounds how many threads run at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.event_tasks import EventTasks, this_task
from unlost.listener.pipeline.exclusive_gate import ExclusiveGate
from unlost.listener.pipeline.route_queues import IN_LINE, Attempt, RouteQueue, RouteQueues
from unlost.listener.ports.rows import TransactionPipeline

Take = Callable[[Attempt, TransactionPipeline], Awaitable[None]]


class Workers:
    """Up to ``at_once`` workers, and the gate at which fresh events wait. ``take`` makes one attempt.

    ``another_follows``: whether an event starts as soon as this one is a row, since it is the next of its key.
    """

    def __init__(
        self,
        queues: RouteQueues,
        tasks: EventTasks,
        *,
        at_once: int,
        take: Take,
        another_follows: Callable[[InFlight], bool],
    ) -> None:
        self._queues = queues
        self._tasks = tasks
        self._at_once = at_once
        self._take = take
        self._another_follows = another_follows
        self._workers: dict[asyncio.Task[None], TransactionPipeline] = {}
        self._in_line = 0
        self.gate = ExclusiveGate(opened=self.start_all)

    def start_all(self) -> None:
        """Start workers for all events that waited, such as while the gate was closed to fresh events."""
        for _ in range(min(len(self._queues), self._at_once * IN_LINE)):
            self.start()

    def start(self) -> None:
        """Start a worker if an attempt may start and none is free for it."""
        has_room = self._busy < self._at_once
        if self._tasks.ending or not (has_room or self._queues.have_lines) or self._is_taken_here():
            return
        if (attempt := self._next_attempt()) is None:
            return
        if has_room or (attempt.queue.is_in_line and len(self._workers) < self._at_once * IN_LINE):
            transactions = TransactionPipeline(lambda: False)
            task = self._tasks.start(self._work(transactions), "worker")
            self._workers[task] = transactions
            task.add_done_callback(self._ended)

    def _is_taken_here(self) -> bool:
        """Whether the one event that waits is taken by the worker that runs now, on the connection that it has kept.

        If that worker ends instead, another one is started for the event.
        """
        if len(self._queues) != 1 or (task := asyncio.current_task()) is None:
            return False
        mine = self._workers.get(task)
        return mine is not None and mine.kept is not None

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Replace a worker that was cancelled because the claim of its event was lost, if others wait."""
        self._workers.pop(task, None)
        if not task.cancelled() and task.exception():
            self._tasks.ending = True
        self.start()

    @property
    def _busy(self) -> int:
        """How many workers do not just wait in line."""
        return len(self._workers) - self._in_line

    async def _work(self, transactions: TransactionPipeline) -> None:
        task = this_task()
        try:
            while not task.cancelling() and (attempt := self._next_attempt()):  # a handler may swallow it
                queue, in_line = attempt.queue, attempt.queue.is_in_line
                transactions.more = partial(self._goes_on, attempt)
                if not in_line and self._busy > self._at_once:
                    break
                self._queues.take(attempt)
                self._in_line += in_line
                if in_line and self._queues.others_wait(queue):
                    self.start()  # this worker counts no more
                try:
                    await self._take(attempt, transactions)
                finally:
                    self._in_line -= in_line
        finally:
            await transactions.rest()

    def _goes_on(self, ending: Attempt) -> bool:
        """Return whether this worker, whose attempt ends, has another event then: the next of the key, or any other.

        Others wait for it only if all other workers are busy.
        """
        if self._another_follows(ending.flight):
            return True
        return self._busy >= self._at_once and self._next_attempt(ending.queue) is not None

    def _next_attempt(self, ending: RouteQueue | None = None) -> Attempt | None:
        """Return the next event to run. Events inside the gate may run; fresh ones wait while it is closed."""
        return self._queues.next(fresh=not self.gate.closed, ending=ending)
