"""What lately happened to events here, by id: bounded, for people who watch or ask."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

from listener.facts import (
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

WORDS = {
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
    """Batches are kept as they were told, and looked through only when somebody asks."""

    hears = frozenset((*WORDS, EventBuried, AttemptFailed))

    def __init__(self, now: Callable[[], float], *, batches: int = 2_000, events: int = 20_000) -> None:
        self._now = now
        self._batches: OrderedDict[int, tuple[float, str, str, Sequence[str]]] = OrderedDict()
        self._count = 0
        self._events = 0
        self._limits = (batches, events)

    def __call__(self, fact: Fact) -> None:
        """Keep one fact that speaks of events."""
        match fact:
            case (
                EventsClaimed(event_ids=ids)
                | EventsStored(event_ids=ids)
                | EventsStandBy(event_ids=ids)
                | EventsTakenOver(event_ids=ids)
                | EventsDuplicate(event_ids=ids)
                | LeasesLost(event_ids=ids)
            ):
                self._keep(WORDS[type(fact)], "", ids)
            case EventBuried(event_id=event_id, reason=reason, message=message):
                self._keep("buried", f"{reason}: {message}", (event_id,))
            case AttemptFailed(stage=stage, message=message, event_id=str(event_id)):
                self._keep("failed", f"{stage}: {message}", (event_id,))
            case _:
                pass

    def of(self, event_ids: Iterable[str]) -> dict[str, list[Happening]]:
        """What is known of each of these events, oldest first."""
        stories: dict[str, list[Happening]] = {event_id: [] for event_id in event_ids}
        for at, what, detail, ids in self._batches.values():
            for event_id in stories.keys() & set(ids):
                stories[event_id].append({"at": at, "what": what, "detail": detail})
        return {event_id: story[-LONGEST_STORY:] for event_id, story in stories.items()}

    def _keep(self, what: str, detail: str, ids: Sequence[str]) -> None:
        self._count += 1
        self._events += len(ids)
        self._batches[self._count] = (self._now(), what, detail, ids)
        batches, events = self._limits
        while len(self._batches) > batches or (self._events > events and len(self._batches) > 1):
            _, (_, _, _, gone) = self._batches.popitem(last=False)
            self._events -= len(gone)
