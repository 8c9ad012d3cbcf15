"""Threads of synchronous handlers. A call costs a few microseconds; to wake a thread for each costs ten times as much.

All calls wait in one queue, and a thread that is awake takes one after another. While calls are quick, one thread is
woken for all that the event loop passed on at once, and what has ended is reported together. If calls are slow, each
that waits gets a thread of its own. If none of those that wait was taken for ``PATIENCE`` seconds, as many threads as
are awake are woken beside them: so none waits for long behind one that blocks.

All threads are daemons: one that hangs cannot be cancelled, and must not keep a stopped process alive. No more threads
are awake than calls are under way, which the caller bounds. Calls that hang beyond their time limit are counted here,
and their threads end with them.
"""

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

PATIENCE = 0.001
"""How long no call may be taken, while some wait that were expected to be quick, in seconds."""
QUICK = 0.0002
"""A call that takes longer than this is slow. To wake a thread takes about a quarter of it."""
MOST_VOTES = 8
"""So many calls of the other kind change the opinion. A few that waited long for the interpreter do not."""
BEGIN_ANEW_SECONDS = 0.01
"""How often the time limits of calls begin anew for which no thread is left. So a limit is kept up to this."""
ANY_NUMBER = 1 << 30


def _nothing() -> None:
    pass


class HandlerThreads:
    """Runs functions in threads. ``sorted_error`` makes of what one raises an error that a future can take."""

    def __init__(self, name: str, sorted_error: Callable[[BaseException], Exception]) -> None:
        self._name = name
        self._sorted_error = sorted_error
        self._idle: deque[_Bell] = deque()
        self._given_up: set[_Call] = set()
        self._calls: _Calls | None = None
        self._at_once = ANY_NUMBER

    def limit(self, at_once: int) -> None:
        """See ``Line``. Calls that were given up do not count."""
        self._at_once = at_once

    @property
    def is_quick(self) -> bool:
        """See ``Line``."""
        return self._calls is not None and self._calls.is_quick

    @property
    def hung(self) -> int:
        """How many calls were given up and still run."""
        return len(self._given_up)

    async def run(self, function: Callable[[], object], begin_anew: Callable[[], None] = _nothing) -> None:
        """Run this in a thread, with the context variables of the caller; raise what it raises.

        ``begin_anew`` lets the caller's time limit begin anew. It is called while no thread is left for this.
        """
        loop = asyncio.get_running_loop()
        calls = self._calls
        if calls is None or calls.loop is not loop:
            calls = self._calls = _Calls(loop, self._wake, self._given_up, lambda: self._at_once)
        call = _Call(function, contextvars.copy_context(), loop.create_future(), begin_anew)
        calls.put(call)
        try:
            await call.outcome
        except asyncio.CancelledError:
            calls.give_up(call)
            raise

    def _wake(self, calls: "_Calls") -> None:
        """Let one more thread work on these."""
        try:
            bell = self._idle.pop()
        except IndexError:
            bell = SimpleQueue()
            threading.Thread(target=self._serve, args=(bell,), name=self._name, daemon=True).start()
        calls.awake.add(bell)
        bell.put(calls)

    def _serve(self, bell: "_Bell") -> None:
        stays = True
        while stays:
            calls = bell.get()
            stays = calls.work(self._sorted_error)
            calls.awake.discard(bell)
            while stays and calls.has_waiting:  # what came in this moment woke no other thread
                calls.awake.add(bell)
                stays = calls.work(self._sorted_error)
                calls.awake.discard(bell)
            if stays:
                self._idle.append(bell)
            calls.report()  # last: what starts the next call finds this thread idle


class _Call:
    """One call. A thread sets ``error`` and ``seconds`` at its end; all else changes on the event loop."""

    __slots__ = ("begin_anew", "context", "error", "function", "has_ended", "outcome", "seconds")

    def __init__(
        self,
        function: Callable[[], object],
        context: contextvars.Context,
        outcome: "asyncio.Future[None]",
        begin_anew: Callable[[], None],
    ) -> None:
        self.function = function
        self.context = context
        self.outcome = outcome
        self.begin_anew = begin_anew
        self.error: Exception | None = None
        self.seconds = 0.0
        self.has_ended = False

    def run(self, sorted_error: Callable[[BaseException], Exception]) -> None:
        """In a thread: run it."""
        began = time.perf_counter()
        try:
            self.context.run(self.function)
        except BaseException as error:  # noqa: BLE001  a future refuses some, and others end an event loop
            self.error = sorted_error(error)
        self.seconds = time.perf_counter() - began

    def end(self) -> None:
        """On the event loop: pass on how it ended."""
        self.has_ended = True
        if self.outcome.done():
            return
        if self.error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(self.error)


class _Calls:
    """The calls of one event loop. Threads use ``work`` and ``report`` alone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: "Callable[[_Calls], None]",
        given_up: set[_Call],
        at_once: Callable[[], int],
    ) -> None:
        self.loop = loop
        self._at_once = at_once
        self.awake: set[_Bell] = set()
        """The threads that work on these."""
        self._wake = wake
        self._given_up = given_up
        self._waiting: deque[_Call] = deque()
        self._ended: deque[_Call] = deque()
        self._under_way = 0
        self._passed_on = True
        self._reported = False
        self._slow = 0
        """Above 0 if most of the latest calls were slow."""
        self._later: asyncio.TimerHandle | None = None
        self._came = 0
        """How many calls were passed on so far."""
        self._taken = 0
        """How many of these had been taken at the last look."""

    # -- on the event loop ----------------------------------------------------------------------

    @property
    def is_quick(self) -> bool:
        """Whether nearly all of the latest calls were quick."""
        return self._slow == -MOST_VOTES

    def put(self, call: _Call) -> None:
        """Let a thread take this call, together with all others that are passed on in the same moment."""
        self._waiting.append(call)
        self._came += 1
        self._under_way += 1
        if self._passed_on:
            self._passed_on = False
            self.loop.call_soon(self._pass_on)

    def give_up(self, call: _Call) -> None:
        """Take back a call that no thread has taken; count any other as hung, until its thread ends it."""
        try:
            self._waiting.remove(call)
        except ValueError:
            if not call.has_ended:
                self._given_up.add(call)
        else:
            self._under_way -= 1

    def _pass_on(self) -> None:
        self._passed_on = True
        if self._slow > 0:
            self._wake_further(len(self._waiting))
        elif self._waiting:
            self._wake_up_to(min(self._most_awake, len(self._given_up) + 1))
        self._look_later()

    def _look_later(self) -> None:
        if self._later is None and self._waiting:
            all_awake = len(self.awake) >= self._most_awake
            self._later = self.loop.call_later(BEGIN_ANEW_SECONDS if all_awake else PATIENCE, self._look_again)

    def _look_again(self) -> None:
        self._later = None
        waiting = tuple(self._waiting)
        taken = self._came - len(waiting)
        if len(self.awake) >= self._most_awake:
            for call in waiting:
                if not call.outcome.done():
                    call.begin_anew()
        elif taken == self._taken:  # all threads are in a call, or wait for the processor
            self._wake_further(max(1, min(len(waiting), len(self.awake))))
        self._taken = taken
        self._look_later()

    @property
    def _most_awake(self) -> int:
        return min(self._under_way, self._at_once() + len(self._given_up))

    def _wake_further(self, count: int) -> None:
        self._wake_up_to(min(self._most_awake, len(self.awake) + count))

    def _wake_up_to(self, count: int) -> None:
        try:
            while len(self.awake) < count:
                self._wake(self)
        except RuntimeError as error:  # the system starts no more threads
            if len(self.awake) <= len(self._given_up):  # else one of them serves those that wait
                self._fail_waiting(error)

    def _fail_waiting(self, error: RuntimeError) -> None:
        with contextlib.suppress(IndexError):  # a thread may have taken the last one
            while True:
                call = self._waiting.popleft()
                call.error = error
                self._ended.append(call)
        self._report()

    def _report(self) -> None:
        self._reported = False
        while self._ended:
            call = self._ended.popleft()
            self._under_way -= 1
            vote = 1 if call.seconds > QUICK else -1
            self._slow = max(-MOST_VOTES, min(MOST_VOTES, self._slow + vote))
            self._given_up.discard(call)
            call.end()

    # -- in a thread ----------------------------------------------------------------------------

    @property
    def has_waiting(self) -> bool:
        """Whether a call waits."""
        return bool(self._waiting)

    def work(self, sorted_error: Callable[[BaseException], Exception]) -> bool:
        """Run what waits, one call after another. Return False if one was given up meanwhile."""
        while True:
            try:
                call = self._waiting.popleft()
            except IndexError:
                return True
            self.report()
            call.run(sorted_error)
            is_given_up = call.outcome.done()
            self._ended.append(call)
            if is_given_up:
                return False

    def report(self) -> None:
        """Let the event loop know what has ended, unless it will look soon."""
        if self._ended and not self._reported:
            self._reported = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.loop.call_soon_threadsafe(self._report)


_Bell = SimpleQueue[_Calls]
