"""Seconds of processor that processes have used, their children's included: what a stage truly costs.

A server's connections may be processes of their own that end meanwhile; what they used is counted with the
process that started them.
"""

import contextlib
import os
from collections.abc import Iterable

import psutil


def seconds(pids: Iterable[int | None], *, self_too: bool = True) -> float:
    """Processor seconds used until now by these process trees, and by this process."""
    total = 0.0
    for pid in pids:
        if pid is not None:
            total += _tree(psutil.Process(pid))
    if self_too:
        mine = os.times()
        total += mine.user + mine.system
    return total


def _tree(root: psutil.Process) -> float:
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
