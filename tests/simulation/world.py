"""A world under a virtual clock, with processes that can be killed and frozen at any step.

To asyncio, each process is an event loop of its own. All of them share one clock and one queue. Nothing waits in real
time: when nothing is ready, the clock jumps to the next timer. So a *kill -9* is exact: not one further step of that
process runs, no ``finally`` either. In a *freeze* (SIGSTOP), its steps and expired timers are held back until it is
woken, while time, its leases and its peers go on.

The same seed runs the same steps, in the same order (with the same ``PYTHONHASHSEED``).
"""

import asyncio
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any

import msgspec

STEPS_AT_ONCE = 20_000
"""More steps than this without time passing mean an endless loop."""


class Step(msgspec.Struct, eq=False):
    """One callback at a time. A schedule has hundreds of them, so it must be cheap to make."""

    process: Any
    due: float
    callback: Callable[..., Any] | None
    args: tuple[Any, ...]

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self.due


class Broken(Exception):
    """The law, or a rule of leases, is broken."""


class World:
    """Time, chance, and everything that waits for its turn."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self.trace: list[str] | None = [] if traced else None
        self.broken: str | None = None
        self._timers: list[tuple[float, int, Step]] = []
        self.ready: deque[Step] = deque()
        self._order = itertools.count()

    def later(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call a function of the world itself after ``delay`` seconds."""
        when = self.now + delay
        heappush(self._timers, (when, next(self._order), Step(None, when, callback, args)))

    def schedule(self, process: "Process", when: float, callback: Callable[..., Any], args: tuple) -> Step:
        step = Step(process, when, callback, args)
        heappush(self._timers, (when, next(self._order), step))
        return step

    def ready_again(self, steps: list[Step]) -> None:
        self.ready.extend(steps)

    def note(self, who: str, what: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now:9.3f}  {who:<8}  {what}")

    def end(self, processes: "list[Process]") -> None:
        """Unwind what is left of these processes. Nothing of it reaches a server."""
        for step in self.ready:
            if step.process is not None:
                step.process.hold(step)
        self.ready.clear()
        for process in processes:
            process.bury_tasks()

    def break_law(self, what: str) -> None:
        """Record the first violation. The run ends after this step."""
        if self.broken is None:
            self.broken = what
            self.note("LAW", what)

    def run(self, *, until: float) -> None:
        """Continue until that time, or until the law is broken."""
        ready, timers, enter = self.ready, self._timers, events._set_running_loop
        running: Process | None = None
        left = STEPS_AT_ONCE
        enter(None)
        try:
            while self.broken is None:
                if not ready:
                    if not timers or timers[0][0] > until:
                        self.now = max(self.now, until)
                        return
                    self._advance()
                    left = STEPS_AT_ONCE
                step = ready.popleft()
                left -= 1
                process = step.process
                if not left:
                    self.break_law("an endless loop: steps without time passing")
                elif step.callback is None:
                    pass
                elif process is None:
                    step.callback(*step.args)
                elif process.state is RUNNING:
                    if process is not running:
                        running = process
                        enter(process)
                    process.take(step)
                else:
                    process.hold(step)
        finally:
            enter(None)

    def _advance(self) -> None:
        """Let the clock jump to the next timer. Everything that is due then is ready."""
        timers, ready = self._timers, self.ready
        self.now = now = timers[0][0]
        while timers and timers[0][0] <= now:
            ready.append(heappop(timers)[2])


RUNNING, FROZEN, DEAD, AFTERLIFE = "running", "frozen", "dead", "afterlife"


_started = itertools.count()


class Job(asyncio.Task[Any]):
    """A task whose hash does not depend on its memory address, so that sets of tasks are cancelled in a fixed order.

    The low bits of the hash, which order a small set, are the same in each run. The high bits differ, because asyncio's
    own set of all tasks outlives a run: with equal hashes it would become one long chain of collisions.
    """

    __slots__ = ("number",)

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], *, loop: "Process", name: str | None) -> None:
        self.number = next(_started) << 20 | number
        super().__init__(coro, loop=loop, name=name)

    def __hash__(self) -> int:
        return self.number


class Process(asyncio.AbstractEventLoop):
    """One process start. To the code that runs in it, it is the event loop."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.state = RUNNING
        self.started_at = world.now
        self.frozen_at: float | None = None
        self.woken_at = -1.0
        self.trouble: list[str] = []
        self._held: list[Step] = []
        self._tasks: list[Job] = []

    # -- what happens to a process --------------------------------------------------------------

    def kill(self) -> None:
        self.state = DEAD

    def freeze(self) -> None:
        if self.state is RUNNING:
            self.state = FROZEN
            self.frozen_at = self.world.now

    def wake(self) -> None:
        if self.state is FROZEN:
            self.state = RUNNING
            self.woken_at = self.world.now
            held, self._held = self._held, []
            self.world.ready_again(held)

    @property
    def alive(self) -> bool:
        return self.state is RUNNING or self.state is FROZEN

    def frozen_since(self, when: float) -> bool:
        return self.state is FROZEN or (self.frozen_at is not None and self.woken_at >= when)

    def take(self, step: Step) -> None:
        """Run a step."""
        try:
            step.callback(*step.args)  # type: ignore[misc]  # it was not cancelled
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - asyncio does the same with it
            self.callback_failed(error)

    def hold(self, step: Step) -> None:
        """Keep a step that may not run, until the process is woken, or until nothing it does matters any more."""
        self._held.append(step)

    def callback_failed(self, error: BaseException) -> None:
        self.call_exception_handler({"message": "in a callback", "exception": error})

    def bury_tasks(self) -> None:
        """After the end, unwind every coroutine quietly, so that garbage collection runs no code later."""
        self.state = AFTERLIFE
        events._set_running_loop(self)
        try:
            for _ in range(30):
                left = [task for task in self._tasks if not task.done()]
                if not left:
                    break
                for task in left:
                    task.cancel()
                self._unwind()
        finally:
            events._set_running_loop(None)
        self._tasks.clear()

    def _unwind(self) -> None:
        for _ in range(100_000):
            if not self._held:
                return
            steps, self._held = self._held, []
            for step in steps:
                if step.callback is not None:
                    step.callback(*step.args)

    # -- what asyncio uses of a loop ------------------------------------------------------------

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Step:  # type: ignore[override]
        world = self.world
        step = Step(self, world.now, callback, args)
        (self._held if self.state is AFTERLIFE else world.ready).append(step)
        return step

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Step:  # type: ignore[override]
        return self.world.schedule(self, self.world.now + delay if delay > 0 else self.world.now, callback, args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Step:  # type: ignore[override]
        return self.world.schedule(self, max(when, self.world.now), callback, args)

    def time(self) -> float:
        return self.world.now

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, **_: Any) -> "asyncio.Task[Any]":  # type: ignore[override]
        task = Job(len(self._tasks), coro, loop=self, name=name)
        self._tasks.append(task)
        return task

    get_debug = staticmethod(bool)
    """Always False. Each future asks, and ``bool`` answers without a call of a Python function."""

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.state in (RUNNING, FROZEN):
            error = context.get("exception")
            self.world.break_law(f"{self.name}: {context.get('message')}: {type(error).__name__}: {error}")
