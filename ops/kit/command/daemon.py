"""How a daemon or a replay runs: on an event loop, with few garbage collections. A daemon ends in order at SIGTERM.

Objects that exist once the daemon is built live as long as the process, so they are frozen: no collection scans them
again. Later objects are freed by reference counts; only reference cycles wait for a collection. Rare collections cost a
little memory. They avoid pauses, which would be long while thousands of events are in flight.
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
    """Something that runs until ``stop()`` is called."""

    async def run(self) -> None:
        """Run."""

    def stop(self) -> None:
        """Begin an orderly end."""


def run_through(main: Coroutine[None, None, T]) -> T:
    """Run ``main`` on an event loop until it ends, whatever another task or callback raises.

    When a user's task calls ``sys.exit``, asyncio leaves the loop, and all events in flight would be lost. Only that
    task has failed, so the loop is entered again and continues. ``main`` must handle SIGINT in its first step.
    """
    gc.set_threshold(*COLLECT_EVERY)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        task = runner.get_loop().create_task(main)
        while True:
            try:
                return runner.get_loop().run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:  # not from Ctrl-C: the loop handles that signal itself
                if task.done():
                    raise
                structlog.get_logger().error(
                    "exit_ignored", why=f"a task or a callback beside the work raised {error!r}"
                )


def run_daemon(make: Callable[[], Daemon]) -> None:
    """Build a daemon on its event loop, and run it until it ends."""

    async def run() -> None:
        daemon = make()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, daemon.stop)
        # Everything that is loaded now lives as long as the process, so no collection needs to scan it, not even once.
        gc.freeze()
        gc.enable()
        await daemon.run()
        # Closing the loop removes its handlers. Without this, a second SIGTERM would kill a process that is already
        # exiting in order.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    run_through(run())
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
