"""Retries: events between two attempts. They have no worker, and their claims are held and renewed.

Bounded by number and bytes: they are in the intake's memory, and the rest of it belongs to events that can run now.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable

from unlost.listener.core.clocks import Clocks
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.route_queues import Attempt
from unlost.listener.pipeline.work import WaitingEvent

FEW = 100
Due = Callable[[Iterable[Attempt]], None]


class Retries:
    """Passes each attempt to ``due`` after its pause."""

    def __init__(self, *, policy: Policy, due: Due, clocks: Clocks) -> None:
        self._policy = policy
        self._due = due
        self._clocks = clocks
        self._pausing: dict[str, tuple[float, Attempt]] = {}
        self._order: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._pausing)

    def by_route(self) -> Counter[str]:
        """Count those of each route."""
        return Counter(attempt.queue.name for _, attempt in self._pausing.values())

    def next(self, most: int) -> list[WaitingEvent]:
        """Return the events whose attempts come next."""
        now = self._clocks.monotonic()
        soonest = heapq.nsmallest(most, self._pausing.values(), key=lambda one: one[0])
        return [_described(attempt, max(0.0, until - now)) for until, attempt in soonest]

    def has_room_for(self, flight: InFlight) -> bool:
        """Whether one more event may wait here."""
        return (
            len(self._pausing) < self._policy.most_retries
            and self._bytes + flight.event.size <= self._policy.most_retry_bytes
        )

    def put(self, attempt: Attempt, seconds: float) -> None:
        """Let this attempt wait for ``seconds``."""
        until, claim_id = self._clocks.monotonic() + seconds, attempt.flight.claim_id
        self._pausing[claim_id] = until, attempt
        self._bytes += attempt.flight.event.size
        heapq.heappush(self._order, (until, next(self._numbers), claim_id))
        if self._order[0][2] == claim_id:
            self._changed.set()

    def pop(self, claim_id: str) -> Attempt | None:
        """Take one out: its claim is lost or released."""
        if (found := self._pausing.pop(claim_id, None)) is None:
            return None
        self._bytes -= found[1].flight.event.size
        if len(self._order) > 2 * len(self._pausing) + FEW:
            self._order = [one for one in self._order if self._pausing.get(one[2], (None,))[0] == one[0]]
            heapq.heapify(self._order)
        return found[1]

    def later_than(self, seconds: float) -> list[Attempt]:
        """Return those that wait for longer than ``seconds`` from now, and those that must be claimed first."""
        until = self._clocks.monotonic() + seconds
        return [one for end, one in self._pausing.values() if end > until or one.entry == "suspect"]

    async def run(self) -> None:
        """Pass them on at their times, until cancelled."""
        while True:
            if ended := self._ended():
                self._due(ended)
            self._changed.clear()
            pause = max(0.0, self._order[0][0] - self._clocks.monotonic()) if self._order else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    def _ended(self) -> list[Attempt]:
        now = self._clocks.monotonic()
        ended = []
        while self._order and self._order[0][0] <= now:
            until, _, claim_id = heapq.heappop(self._order)
            found = self._pausing.get(claim_id)
            if found is not None and found[0] == until:  # else it was taken out, and perhaps came back
                ended.append(found[1])
                self.pop(claim_id)
        return ended


def _described(attempt: Attempt, seconds: float) -> WaitingEvent:
    flight = attempt.flight
    last = flight.attempts[-1] if flight.attempts else None
    error = f"{last.error_type}: {last.message}" if last else ""
    return WaitingEvent(flight.event.event_id, flight.event.type, attempt.queue.name, attempt.number, seconds, error)
