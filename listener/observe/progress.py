"""Whether what is in hand moves: something ends or runs, or it has not been in hand for long."""

from collections.abc import Callable

from unlost.listener.core.facts import (
    AttemptFailed,
    EventBuried,
    EventsDuplicate,
    EventsStored,
    Fact,
    FramesUnread,
    HandlerRan,
)

MOVES = frozenset((AttemptFailed, EventBuried, EventsDuplicate, EventsStored, FramesUnread, HandlerRan))


class Progress:
    """Hears facts."""

    hears = MOVES

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moved_at = clock()

    def __call__(self, fact: Fact) -> None:
        """Anything that ends or runs is progress."""
        if type(fact) in MOVES:
            self._moved_at = self._clock()

    def stuck_for(self, in_hand: int, age_of_oldest: float) -> float:
        """For how long nothing has moved, where something should.

        ``in_hand``: events in memory that wait for nobody else, claimed or not. However long it was idle, nothing
        is stuck for longer than the oldest event has been here.
        """
        return min(self._clock() - self._moved_at, age_of_oldest) if in_hand else 0.0
