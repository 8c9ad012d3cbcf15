"""The entry point of every process. In a daemon, SIGTERM and Ctrl-C end the process in order from here on.

Importing all modules takes up to a second on a busy machine. A process that is stopped in that second has begun
nothing, so it exits with code 0. This module imports nothing else of the package at its top, so that its signal
handler is installed before that second. The event loop replaces the handler later.

Garbage is not collected in that second: what is loaded stays, and scanning it costs a third of the start. The kit of
commands begins to collect when everything is loaded (``unlost.ops.kit.command``), in a daemon once it is built.
"""

import gc
import os
import signal
import sys
from types import FrameType, TracebackType

DAEMONS = ("listener", "producer")


def main() -> None:
    """The command ``unlost``."""
    if sys.argv[1:2] and sys.argv[1] in DAEMONS:
        end_at_signals()
    mask_crashes()
    gc.disable()
    from unlost.ops.cli import main

    main(prog_name="unlost")


def dlq() -> None:
    """The command ``dlq``."""
    mask_crashes()
    gc.disable()
    from unlost.dlq.commands.cli import main

    main(prog_name="dlq")


def end_at_signals() -> None:
    """End the process at a signal. Not by an exception: raised in the middle of an import, it could end up anywhere."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def mask_crashes() -> None:
    """Print the traceback of a mistake of ours without the passwords that its message may quote, in any thread."""
    import threading

    sys.excepthook = _print_masked
    threading.excepthook = lambda crash: _print_masked(crash.exc_type, crash.exc_value, crash.exc_traceback)


def _print_masked(kind: type[BaseException], error: BaseException | None, frames: TracebackType | None) -> None:
    import traceback

    from unlost.ops.kit.telemetry.mask import masked
    from unlost.ops.kit.telemetry.printable import printable_lines

    if issubclass(kind, SystemExit):
        return
    sys.stderr.write(printable_lines(masked("".join(traceback.format_exception(kind, error, frames)))))


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  the shape that Python calls
    os._exit(0)
