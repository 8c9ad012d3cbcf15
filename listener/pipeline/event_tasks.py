"""The task in which each event is handled now. A task whose event was lost, or stopped, no longer counts for it."""

import asyncio
from collections.abc import Coroutine

from unlost.listener.core.in_flight import InFlight

STOP_SECONDS = 1.0
"""How long a cancelled handler may take to clean up."""


class EventTasks:
    """The tasks of one ``Handling``, by the claims of their events. All belong to ``group``."""

    def __init__(self) -> None:
        self.group: asyncio.TaskGroup | None = None
        self.ending = False
        """Nothing new may start: handling ends."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        """Claims of the events whose handler has been called. An orderly stop lets these end."""

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Start a task that belongs to no event."""
        assert self.group is not None, "run() must be running"
        return self.group.create_task(work, name=name)

    def start_for(self, flight: InFlight, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task in which this event goes on."""
        claim_id = flight.claim_id
        task = self.start(work, f"handle {claim_id[:64]}")
        self._running[claim_id] = task
        task.add_done_callback(lambda done: self.forget(claim_id, done))
        return task

    def enter(self, claim_id: str) -> asyncio.Task[None]:
        """Handle this event in the running task from now on."""
        self._running[claim_id] = task = this_task()
        return task

    def begin(self, claim_id: str) -> None:
        """Note that the handler is called now."""
        self._begun.add(claim_id)

    def is_ours(self, claim_id: str) -> bool:
        """Return whether the running task still handles this event."""
        return not self.ending and self._running.get(claim_id) is this_task()

    def forget(self, claim_id: str, task: asyncio.Task[None]) -> None:
        """Note that this task has ended, or handles another event."""
        if self._running.get(claim_id) is task:
            del self._running[claim_id]
            self._begun.discard(claim_id)

    def put_back(self, claim_id: str) -> None:
        """Note that the handler of this event is not running."""
        self._begun.discard(claim_id)

    def cancel(self, claim_id: str) -> bool:
        """Cancel the task of an event; return whether there was one."""
        task = self._running.pop(claim_id, None)
        self._begun.discard(claim_id)
        return task is not None and task.cancel()

    async def stop(self, *, begun: bool) -> list[str]:
        """Cancel these tasks and wait for them; return the claims of those that have ended."""
        running = {claim_id: task for claim_id, task in self._running.items() if not task.done()}
        stopping = {claim_id: task for claim_id, task in running.items() if begun or claim_id not in self._begun}
        for task in stopping.values():
            task.cancel()
        if stopping:
            await asyncio.wait(stopping.values(), timeout=STOP_SECONDS)
        return [claim_id for claim_id, task in stopping.items() if task.done()]


def this_task() -> asyncio.Task[None]:
    """Return the running task."""
    task = asyncio.current_task()
    assert task is not None
    return task
