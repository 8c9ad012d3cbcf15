"""A breaker for one route: decides whether single events fail, or something that all events need. Pure.

A route is suspected once ``FEW`` different events have failed in the same way, and hardly any has succeeded. It pauses
if that goes on for ``lasting`` seconds. Then one event at a time is tried, and no failure counts against an event. The
first success ends the pause.

Only the first attempt of an event is evidence: a few poison events that fail again and again are still only a few. A
success outweighs ``OUTWEIGHS`` failures: one success among ten failures within ``lasting`` seconds is enough to prevent
a pause. While the evidence has not lasted long enough, only a part of the route's attempts run at once. Otherwise a
dependency that fails quickly would cost every waiting event an attempt.
"""

from collections.abc import Callable
from typing import Literal

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.backoff import FullJitter

FEW = 5
OUTWEIGHS = 10
MOST = FEW - 1 + OUTWEIGHS
"""Evidence is not counted beyond this. So after a success one more failure is needed before the route is suspected."""
FORGET_SECONDS = 60.0
"""Failures further apart than this are treated as unrelated."""
SHORTEST, LONGEST = 0.1, 1.0
"""Limits of ``lasting``, which is a quarter of the time that an event's attempts take."""
CAUTIOUS_SHARE = 4
PROBES = FullJitter(first=0.2, longest=5.0)
"""The pauses between two probes."""

State = Literal["closed", "open"]


class Evidence:
    """Events whose first attempt failed in the same way, and a score that successes lower."""

    __slots__ = ("events", "last", "score", "since")

    def __init__(self, now: float) -> None:
        self.events: set[str] = set()
        self.score = 0
        self.since = self.last = now

    def add(self, event_id: str, now: float) -> None:
        """Count one event, once."""
        self.last = now
        if event_id not in self.events:
            self.score = min(MOST, self.score + 1)
            if len(self.events) < MOST:
                self.events.add(event_id)


class RouteBreaker:
    """The state of one route. Times are monotonic."""

    __slots__ = ("_closed_at", "_evidence", "_failures", "_lasting", "_rng", "opened_at", "probe_at", "why")

    def __init__(self, retry: Backoff, rng: Callable[[], float]) -> None:
        self._lasting = min(LONGEST, max(SHORTEST, (retry.attempts - 1) * retry.first / 4))
        self._rng = rng
        self._evidence: dict[str, Evidence] = {}
        self._failures = 0
        self._closed_at = float("-inf")
        self.opened_at = self.probe_at = 0.0
        self.why = ""
        """The error of nearly all attempts while the route pauses; empty if it does not."""

    @property
    def is_open(self) -> bool:
        """Whether the route pauses."""
        return bool(self.why)

    @property
    def is_calm(self) -> bool:
        """Whether there is no evidence against the route."""
        return not self._evidence and not self.why

    def at_once(self, limit: int, clock: Callable[[], float]) -> int:
        """Return how many attempts may run at once; ``limit`` is the number without evidence."""
        if self.why:
            return int(clock() >= self.probe_at)
        if self._evidence and any(one.score == MOST for one in self._evidence.values()):
            return max(1, limit // CAUTIOUS_SHARE)
        return limit

    def failed(self, event_id: str, kind: str, why: str, *, first: bool, began: float, now: float) -> bool:
        """Take note of a failed attempt; return whether it counts against its event.

        ``kind``: failures of one kind count as the same. ``first``: it was the first attempt of its event.
        """
        if self.why:
            if began > self.opened_at:  # a probe
                self.why = why
                self._failures += 1
                self.probe_at = now + PROBES.delay(self._failures, self._rng())
            return False
        if began <= self._closed_at:
            return False
        evidence = self._evidence.get(kind)
        if evidence is None or now - evidence.last > FORGET_SECONDS:
            if not first:
                return True
            if len(self._evidence) >= MOST:
                self._evidence.clear()
            evidence = self._evidence[kind] = Evidence(now)
        if first:
            evidence.add(event_id, now)
        if evidence.score < FEW or now - evidence.since < self._lasting:
            return True
        self._open(why, now)
        return False

    def _open(self, why: str, now: float) -> None:
        self._evidence.clear()
        self.why, self.opened_at = why, now
        self._failures = 1
        self.probe_at = now + PROBES.delay(1, self._rng())

    def succeeded(self, now: float) -> bool:
        """Take note of a success; return whether it ended a pause."""
        if self.why:
            self.why, self._closed_at = "", now
            return True
        if self._evidence:
            for kind, evidence in list(self._evidence.items()):
                evidence.score -= OUTWEIGHS
                if evidence.score <= 0:
                    del self._evidence[kind]
                else:
                    evidence.events.clear()
        return False
