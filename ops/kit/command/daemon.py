"""How a daemon of ours lives: an event loop, an orderly end at SIGTERM or Ctrl-C, and a garbage collector kept quiet.

What is loaded when the daemon is made lives as long as the process, so no collection looks through it again. What
passes through afterwards is freed by reference counts; only what is cyclic waits for a collection, and looking for that
less often costs a little memory and saves the pauses that thousands of events in hand would make long.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Protocol, TypeVar

import structlog
import uvloop

T = TypeVar("T")
COLLECT_EVERY = (50_000, 20, 20)


class Daemon(Protocol):
    """What runs until it is told to stop."""

    async def run(self) -> None:
        """Run."""

    def stop(self) -> None:
        """Begin an orderly end."""


def run_through(main: Coroutine[None, None, T]) -> T:
    """Run this on an event loop to its own end, whatever a task or a callback beside it raises.

    A task of a user's that calls ``sys.exit`` ends the loop's run, and with it all that is in hand. It is that task's
    failure alone, so the loop goes on where it was. ``main`` sees to SIGINT in its first step.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        task = runner.get_loop().create_task(main)
        while True:
            try:
                return runner.get_loop().run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:  # Ctrl-C itself is a signal that the loop handles
                if task.done():
                    raise
                structlog.get_logger().error(
                    "exit_ignored", why=f"a task or a callback beside the work raised {error!r}"
                )


def run_daemon(make: Callable[[], Daemon]) -> None:
    """Make a daemon, on its event loop, and run it to its end."""

    async def run() -> None:
        daemon = make()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, daemon.stop)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_EVERY)
        await daemon.run()
        # The loop takes its handlers away with itself: a second SIGTERM would end a process that has ended in order.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    run_through(run())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
