"""A child process that does not outlive its parent (Linux only).

The kernel binds the signal to the *thread* that started the child, so start children from the main thread.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def dies_with_parent(with_signal: signal.Signals) -> Callable[[], None] | None:
    """Make the function that a child runs before its program: it requests a signal for the death of its parent."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def prepare() -> None:
        prctl(PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the kernel was asked
            _leave()

    return prepare


def _leave() -> NoReturn:
    os._exit(1)
