"""How a daemon of ours lives: an event loop, an orderly end at SIGTERM or Ctrl-C, and a garbage collector kept quiet.

What is loaded when the daemon is made lives as long as the process, so no collection looks through it again. What
passes through afterwards is freed by reference counts; only what is cyclic waits for a collection, and looking for that
less often costs a little memory and saves the pauses that thousands of events in hand would make long.
"""

import asyncio
import gc
import signal
from collections.abc import Callable
from typing import Protocol

import uvloop

COLLECT_EVERY = (50_000, 20, 20)


class Daemon(Protocol):
    """What runs until it is told to stop."""

    async def run(self) -> None:
        """Run."""

    def stop(self) -> None:
        """Begin an orderly end."""


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

    uvloop.run(run())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
