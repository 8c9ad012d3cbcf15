"""Processor seconds that processes and their children have used: the real cost of a stage.

A server may have one process per connection, which may end during a measurement. The time of such a process is counted
with the process that started it.
"""

import contextlib
import os
from collections.abc import Iterable

import psutil


def seconds(pids: Iterable[int | None], *, self_too: bool = True) -> float:
    """Processor seconds used so far by these process trees and, if ``self_too``, by this process."""
    total = 0.0
    for pid in pids:
        if pid is not None:
            total += _tree(psutil.Process(pid))
    if self_too:
        mine = os.times()
        total += mine.user + mine.system
    return total


class Used:
    """The processor seconds that these process trees use from now on."""

    def __init__(self, pids: Iterable[int | None]) -> None:
        self._pids = list(pids)
        self._before = seconds(self._pids, self_too=False)

    def seconds(self) -> float:
        """Processor seconds used so far."""
        return seconds(self._pids, self_too=False) - self._before


def _tree(root: psutil.Process) -> float:
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
