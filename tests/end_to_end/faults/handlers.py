"""Handlers for the tests of faults.

Those in a listener's process are controlled by files: each run adds a line to ``RUNS_FILE``, and slow ones end once
``GATE_FILE`` exists.
"""

import asyncio
import contextlib
import os
import signal
import threading
import time
from pathlib import Path

from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Reject


def named(function) -> str:
    return f"{__name__}:{function.__name__}"


async def accept(event: Delivery) -> None:
    """Do nothing."""


async def hang(event: Delivery) -> None:
    await asyncio.Event().wait()


async def wait_for_file(event: Delivery) -> None:
    _note_in_file(event)
    while event.event_id.startswith("held") and not _gate_is_open():  # noqa: ASYNC110  another process opens it
        await asyncio.sleep(0.02)


async def block_the_loop(event: Delivery) -> None:
    """No `async def` may do this: nothing else runs until the gate is open."""
    _note_in_file(event)
    while not _gate_is_open():
        time.sleep(0.02)  # noqa: ASYNC251  the fault to test


async def never_give_in(event: Delivery) -> None:
    """No `async def` may do this either: the time limit cannot end it."""
    _note_in_file(event)
    while not _gate_is_open():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)


def hang_in_a_thread(event: Delivery) -> None:
    _note_in_file(event)
    threading.Event().wait()


async def kill_for_bomb(event: Delivery) -> None:
    _note_in_file(event)
    if event.event_id == "bomb":
        os.kill(os.getpid(), signal.SIGKILL)


async def reject_bad(event: Delivery) -> None:
    if event.event_id.startswith("bad"):
        raise Reject("we do not sell that")


def _gate_is_open() -> bool:
    return Path(os.environ["GATE_FILE"]).exists()


def _note_in_file(event: Delivery) -> None:
    with Path(os.environ["RUNS_FILE"]).open("a") as file:
        file.write(f"{event.event_id}\n")
