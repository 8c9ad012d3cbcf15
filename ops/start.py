"""The first lines of every process of ours. In a daemon's, a stop (SIGTERM, Ctrl-C) ends it in order from here on.

Loading all modules takes up to a second on a busy machine, and what is asked to stop meanwhile has begun nothing. This
module imports nothing of ours at its head, so that its handler stands before that second. The event loop replaces it.
"""

import os
import signal
import sys
from types import FrameType

DAEMONS = ("listener", "producer")


def main() -> None:
    """The command ``unlost``."""
    if sys.argv[1:2] and sys.argv[1] in DAEMONS:
        end_at_signals()
    from unlost.ops.cli import main

    main(prog_name="unlost")


def end_at_signals() -> None:
    """End the process at a signal. Not by an exception: in the middle of an import, that could end anywhere."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the shape that Python calls
    os._exit(0)
