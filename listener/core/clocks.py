"""The clocks, as an argument: nothing else in the core asks what time it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """The two clocks: ``now`` tells the time of day, ``monotonic`` measures."""

    now: Callable[[], float]
    monotonic: Callable[[], float]
