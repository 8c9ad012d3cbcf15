"""Changes of state for people on call: what this listener lost and found lately, and what it lacks since when.

Owns a short, bounded past. Promises one entry for a change that repeats (how often, and when last), so that a server
that comes and goes does not push out everything else. Refuses what belongs to single events: see ``recent``.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from unlost.listener.core.facts import (
    BreakerChanged,
    ClaimingChanged,
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    EventBuried,
    EventsTakenOver,
    Fact,
    LeasesLost,
    LettersReopened,
    PlacesDeclared,
    ReadingPaused,
    ReadingResumed,
    SourceConnected,
    SourceGap,
    SourceLost,
    StoreReplaced,
    StoreWentBack,
    StoringPaused,
    StoringResumed,
)

MOST = 40
SUBSCRIBED = frozenset((
    BreakerChanged, ClaimingChanged, DeadLetterFileFailed, DeadLetterFileRecovered, EventBuried, EventsTakenOver,
    LeasesLost, LettersReopened, PlacesDeclared, ReadingPaused, ReadingResumed, SourceConnected, SourceGap, SourceLost,
    StoreReplaced, StoreWentBack, StoringPaused, StoringResumed,
))  # fmt: skip
REMARK_SECONDS = 3600.0
"""How long health mentions that PostgreSQL went back."""
ALIKE_SECONDS = 60.0
"""Equal changes within this many seconds share one entry."""


class Change(msgspec.Struct, frozen=True):
    """Something that changed ``times`` times between ``first_at`` and ``at``."""

    at: float
    what: str
    detail: str
    times: int
    first_at: float


class Changes:
    """Subscribes to facts, and remembers changes."""

    subscribes_to = SUBSCRIBED

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._past: deque[Change] = deque(maxlen=MOST)
        self._since: dict[str, float] = {}

    def __call__(self, fact: Fact) -> None:  # noqa: C901  one flat table, fact to entry
        """Keep one fact, if it is a change of state."""
        lacking = set(self._since)
        self._mark(fact)
        match fact:
            case BreakerChanged(name=name, state=state) if (name in lacking) is not (name in self._since):
                self._keep("breaker_changed", f"{name} {state}")
            case PlacesDeclared(degraded=degraded) if degraded is not ("degraded" in lacking):
                self._turn("degraded", degraded)
                self._keep("degraded" if degraded else "normal", "")
            case SourceConnected():
                self._keep("source_connected", "")
            case SourceLost(why=why):
                self._keep("source_lost", why)
            case SourceGap(cursor=cursor, resumed_at=resumed_at):
                self._keep("source_gap", f"from {cursor} to {resumed_at}")
            case StoreWentBack():
                self._keep("store_went_back", "PostgreSQL lacks what it had committed; it is read again")
            case StoreReplaced():
                self._keep("store_replaced", "PostgreSQL crashed or failed over; the latest events are read again")
            case LettersReopened(letter_ids=ids):
                self._keep("letters_reopened", "PostgreSQL lost their rows; replay them", len(ids))
            case ReadingPaused(why=why):
                self._keep("reading_paused", why)
            case StoringPaused(why=why):
                self._keep("storing_paused", why)
            case DeadLetterFileFailed(why=why):
                self._keep("dead_letter_file_failed", why)
            case DeadLetterFileRecovered():
                self._keep("dead_letter_file_recovered", "")
            case EventsTakenOver(event_ids=ids):
                self._keep("events_taken_over", "", len(ids))
            case LeasesLost(event_ids=ids):
                self._keep("leases_lost", "", len(ids))
            case EventBuried(reason=reason, error_class=error_class):
                self._keep("event_buried", f"{reason}, {error_class}")
            case _:
                pass

    def since(self) -> Mapping[str, float]:
        """Return what is not normal now, and since when."""
        return dict(self._since)

    def lately(self) -> list[Change]:
        """Return the past changes, oldest first."""
        return list(self._past)

    def remarks(self) -> list[str]:
        """Return remarks that matter even if the listener is ready."""
        since = self._now() - REMARK_SECONDS
        went_back = (one for one in self._past if one.what == "store_went_back" and one.at > since)
        return [
            f"{one.detail} (since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(one.at))})" for one in went_back
        ]

    def _mark(self, fact: Fact) -> None:
        match fact:
            case BreakerChanged(name=name, state=state):
                self._turn(name, state != "closed")
            case ClaimingChanged(open=is_open):
                self._turn("claims", not is_open)
            case SourceConnected() | SourceLost():
                self._turn("source", isinstance(fact, SourceLost))
            case ReadingPaused() | ReadingResumed():
                self._turn("reading", isinstance(fact, ReadingPaused))
            case StoringPaused() | StoringResumed():
                self._turn("storing", isinstance(fact, StoringPaused))
            case DeadLetterFileFailed() | DeadLetterFileRecovered():
                self._turn("dead_letters", isinstance(fact, DeadLetterFileFailed))
            case _:
                pass

    def _turn(self, name: str, on: bool) -> None:
        if on:
            self._since.setdefault(name, self._now())
        else:
            self._since.pop(name, None)

    def _keep(self, what: str, detail: str, times: int = 1) -> None:
        now, first = self._now(), self._now()
        for one in list(self._past)[-8:]:
            if (one.what, one.detail) == (what, detail) and now - one.at < ALIKE_SECONDS:
                self._past.remove(one)
                times, first = times + one.times, one.first_at
        self._past.append(Change(now, what, detail, times, first))
