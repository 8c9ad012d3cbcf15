"""The clocks, passed as an argument: nothing else in the core reads the time."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: ``now`` gives the time of day, ``monotonic`` measures intervals."""

    now: Callable[[], float]
    monotonic: Callable[[], float]
