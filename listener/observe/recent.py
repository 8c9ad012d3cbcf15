"""The recent past of events on this listener, by id. Bounded; for people who watch or ask."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from unlost.listener.core.facts import (
    AttemptFailed,
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsStandBy,
    EventsStored,
    EventsTakenOver,
    Fact,
    LeasesLost,
)
from unlost.ops.kit.telemetry.mask import masked

WORDS: dict[type[Fact], str] = {
    EventsClaimed: "claimed",
    EventsStandBy: "standby",
    EventsTakenOver: "taken_over",
    EventsStored: "stored",
    EventsDuplicate: "duplicate",
    LeasesLost: "lease_lost",
}
LONGEST_STORY = 20

Happening = Mapping[str, object]


class Recent:
    """Keeps batches as they were stated, and searches them only on request."""

    subscribes_to = frozenset((*WORDS, EventBuried, AttemptFailed))

    def __init__(self, now: Callable[[], float], *, batches: int = 2_000, events: int = 20_000) -> None:
        self._now = now
        self._batches: deque[tuple[float, str, str, Sequence[str]]] = deque()
        self._events = 0
        self._limits = (batches, events)

    def __call__(self, fact: Fact) -> None:
        """Keep one fact about events."""
        detail = ""
        if what := WORDS.get(type(fact)):
            ids: Sequence[str] = fact.event_ids  # type: ignore[attr-defined]  # all that have a word have ids
        elif type(fact) is EventBuried:
            what, detail, ids = "buried", f"{fact.reason}: {_described(fact)}", (fact.event_id,)
        elif type(fact) is AttemptFailed and fact.event_id is not None:
            what, detail, ids = "failed", f"{fact.stage}: {_described(fact)}", (fact.event_id,)
        else:
            return
        self._batches.append((self._now(), what, detail, ids))
        self._events += len(ids)
        batches, events = self._limits
        while len(self._batches) > batches or (self._events > events and len(self._batches) > 1):
            self._events -= len(self._batches.popleft()[3])

    def of(self, event_ids: Iterable[str]) -> dict[str, list[Happening]]:
        """Return what is known of each of these events, oldest first."""
        stories: dict[str, list[Happening]] = {event_id: [] for event_id in event_ids}
        for at, what, detail, ids in self._batches:
            for event_id in stories.keys() & set(ids):
                stories[event_id].append({"at": at, "what": what, "detail": detail})
        return {event_id: story[-LONGEST_STORY:] for event_id, story in stories.items()}


def _described(fact: EventBuried | AttemptFailed) -> str:
    return masked(f"{fact.error_type}: {fact.message}" if fact.error_type else fact.message)
