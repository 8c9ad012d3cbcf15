"""Threads of synchronous handlers. They are used again: to start one costs three times as much as a call.

All are daemons: one that hangs cannot be cancelled, and must not keep a stopped process alive. The caller bounds how
many calls run at once, so as many threads wait for work at most. Calls that hang beyond their time limit are counted
here, and their threads end with them.
"""

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue


class HandlerThreads:
    """Runs functions in threads. ``sorted_error`` makes of what one raises an error that a future can take."""

    def __init__(self, name: str, sorted_error: Callable[[BaseException], Exception]) -> None:
        self._name = name
        self._sorted_error = sorted_error
        self._idle: deque[SimpleQueue[Callable[[], _Call]]] = deque()
        self._given_up: set[_Call] = set()

    @property
    def hung(self) -> int:
        """How many calls were given up and still run."""
        return len(self._given_up)

    async def run(self, function: Callable[[], object]) -> None:
        """Run this in a thread, with the context variables of the caller; raise what it raises."""
        call = _Call(asyncio.get_running_loop(), self._given_up)
        run_here = contextvars.copy_context().run

        def work() -> _Call:
            try:
                run_here(function)
            except BaseException as error:  # noqa: BLE001  a future refuses some, and others end an event loop
                call.error = self._sorted_error(error)
            return call

        self._put(work)
        try:
            await call.outcome
        except asyncio.CancelledError:
            call.give_up()
            raise

    def _put(self, work: "Callable[[], _Call]") -> None:
        try:
            queue = self._idle.pop()
        except IndexError:
            queue = SimpleQueue()
            threading.Thread(target=self._serve, args=(queue,), name=self._name, daemon=True).start()
        queue.put(work)

    def _serve(self, queue: "SimpleQueue[Callable[[], _Call]]") -> None:
        while True:
            call = queue.get()()
            is_hung = call.outcome.done()
            if not is_hung:
                self._idle.append(queue)
            call.ended_in_thread()
            if is_hung:
                return


class _Call:
    """One call. Its attributes change on the event loop alone. Only ``error`` is set by the thread, at its end."""

    __slots__ = ("_given_up", "_has_ended", "_loop", "error", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop, given_up: "set[_Call]") -> None:
        self._loop = loop
        self._given_up = given_up
        self._has_ended = False
        self.error: Exception | None = None
        self.outcome: asyncio.Future[None] = loop.create_future()

    def ended_in_thread(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        self._has_ended = True
        self._given_up.discard(self)
        if self.outcome.done():
            return
        if self.error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(self.error)

    def give_up(self) -> None:
        """Count this call as hung, until its thread ends it."""
        if not self._has_ended:
            self._given_up.add(self)
