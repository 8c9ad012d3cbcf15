"""The first lines of a daemon's process: from here on a stop (SIGTERM, Ctrl-C) ends it in order, with exit code 0.

Loading all modules takes up to a second on a busy machine, and what is asked to stop meanwhile has begun nothing. This
module imports nothing of ours at its head, so that its handler stands before that second. The event loop replaces it.
"""

import os
import signal
from types import FrameType


def end_at_signals() -> None:
    """End the process at a signal. Not by an exception: in the middle of an import, that could end anywhere."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def listener() -> None:
    """The command ``listener``."""
    end_at_signals()
    from listener.cli import main

    main()


def producer() -> None:
    """The command ``producer``."""
    end_at_signals()
    from producer.cli import main

    main()


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the shape that Python calls
    os._exit(0)
