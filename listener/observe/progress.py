"""Whether events in memory make progress: something ends or runs, or no event has been here for long."""

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
    """Subscribes to facts that mean progress."""

    subscribes_to = MOVES

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._moved_at = clock()

    def __call__(self, fact: Fact) -> None:
        """Record progress: an event ended or a handler ran."""
        if type(fact) in MOVES:
            self._moved_at = self._clock()

    def stuck_for(self, in_hand: int, age_of_oldest: float) -> float:
        """Return for how long nothing has made progress although events are in hand.

        ``in_hand``: events in memory that wait for no other owner, claimed or not. After an idle time, nothing is stuck
        for longer than the oldest event has been here.
        """
        return min(self._clock() - self._moved_at, age_of_oldest) if in_hand else 0.0
