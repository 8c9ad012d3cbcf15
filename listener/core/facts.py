"""What happens to events, as facts: the core states them, and metrics, logs, health and tests listen.

On the hot path one fact speaks of a whole batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from unlost.listener.core.errors import Failure

Outcome = Literal["stored", "duplicate", "buried"]


class Fact(msgspec.Struct, frozen=True):
    """Something that has happened."""


class FramesReceived(Fact, frozen=True):
    """Frames came in from the source."""

    count: int
    size: int


class EventsClaimed(Fact, frozen=True):
    """These events are this listener's to process now."""

    event_ids: Sequence[str]


class EventsStandBy(Fact, frozen=True):
    """Another listener holds these events; they wait here to see them settled."""

    event_ids: Sequence[str]


class EventsTakenOver(Fact, frozen=True):
    """The leases of another owner ran out, and these events are this listener's now."""

    event_ids: Sequence[str]


class EventsStored(Fact, frozen=True):
    """These events are rows, written by this listener; ``seconds`` tells each one's time since receipt."""

    event_ids: Sequence[str]
    seconds: Sequence[float]


class EventsDuplicate(Fact, frozen=True):
    """These events were settled already, or are copies of events that are."""

    event_ids: Sequence[str]


class FramesUnread(Fact, frozen=True):
    """So many frames were of a peer's share and are settled: they ended here without being read."""

    count: int


class EventBuried(Fact, frozen=True):
    """This event is a dead letter, on disk."""

    event_id: str
    reason: str
    error_class: str
    message: str
    error_type: str = ""


class LettersResolved(Fact, frozen=True):
    """These letters need no replay: their events are rows, or wait under another letter."""

    letter_ids: Sequence[str]
    why: str


class LettersReopened(Fact, frozen=True):
    """PostgreSQL lost the rows of these resolved letters: they wait for a replay again."""

    letter_ids: Sequence[str]


class HandlerRan(Fact, frozen=True):
    """One attempt of the handler ended."""

    event_id: str
    seconds: float
    succeeded: bool


class AttemptFailed(Fact, frozen=True):
    """One attempt failed; ``retried`` tells whether another follows. ``count`` events shared it.

    ``traceback``: where in a handler it failed.
    """

    stage: str
    error_class: str
    message: str
    retried: bool
    count: int
    event_id: str | None
    error_type: str = ""
    traceback: str | None = None


def failed_attempt(failure: Failure, *, retried: bool, count: int, event_id: str | None) -> AttemptFailed:
    """The fact of a failure."""
    return AttemptFailed(
        failure.stage, failure.error_class, failure.message, retried, count, event_id, failure.error_type,
        failure.traceback,
    )  # fmt: skip


class LeasesLost(Fact, frozen=True):
    """Leases that this listener held are lost; what ran for them is cancelled."""

    event_ids: Sequence[str]


class BatchDone(Fact, frozen=True):
    """A stage worked off one batch."""

    stage: Literal["claim", "look", "store", "settle", "bury"]
    count: int
    seconds: float


class BreakerMoved(Fact, frozen=True):
    """A circuit breaker changed its state; ``why``: the failure that opened it, or let it stay open."""

    name: str
    state: str
    why: str = ""


class PlacesDeclared(Fact, frozen=True):
    """Claims are kept in these places from now on; degraded means without Redis."""

    places: tuple[str, ...]
    degraded: bool


class MeetingChanged(Fact, frozen=True):
    """New events may be started (every live peer is met), or may not, and why."""

    open: bool
    why: str


class SourceConnected(Fact, frozen=True):
    """The source is connected; ``after`` is where reading went on, if the source can resume."""

    url: str
    after: str | None


class SourceLost(Fact, frozen=True):
    """There is no connection to the source; ``delay`` seconds pass before the next try.

    ``code`` is the close code: 1006 where a connection ended without one, None where none was opened. ``reason`` is the
    text that came with it.
    """

    url: str
    why: str
    delay: float
    code: int | None = None
    reason: str = ""


class SourceGap(Fact, frozen=True):
    """The source no longer knows the cursor: what it dropped before ``resumed_at`` was not seen."""

    cursor: str
    resumed_at: str


class ReadingPaused(Fact, frozen=True):
    """Reading from the source stopped for want of room or of a database."""

    why: str


class ReadingResumed(Fact, frozen=True):
    """Reading from the source goes on."""

    seconds: float


class StoringPaused(Fact, frozen=True):
    """PostgreSQL takes no rows: what is to be stored waits, and no attempt is counted."""

    why: str


class StoringResumed(Fact, frozen=True):
    """PostgreSQL takes rows again."""

    seconds: float


class CursorSaved(Fact, frozen=True):
    """Everything up to this cursor is settled, and PostgreSQL knows."""

    cursor: str


class CursorNotSaved(Fact, frozen=True):
    """The cursor could not be written; the next write makes up for it."""

    why: str


class StoreWentBack(Fact, frozen=True):
    """PostgreSQL lacks what it had committed: it was restored, or a standby took over that was behind.

    What it lacks is read again from the source after the cursor that it has, where the source can resume.
    """

    generation: str


class StoreReplaced(Fact, frozen=True):
    """PostgreSQL crashed or failed over, perhaps without its latest commits: the latest events are read again."""

    place: str


class DeadLetterTrouble(Fact, frozen=True):
    """The dead-letter file cannot be written: what should be buried is held, and reading stops."""

    why: str


class DeadLetterHealed(Fact, frozen=True):
    """The dead-letter file takes letters again."""


Facts = Callable[[Fact], None]


def tell_all(*hearers: Facts) -> Facts:
    """One voice for several hearers. Who names some kinds of facts in an attribute ``hears`` is told of no others."""
    told: dict[type[Fact], tuple[Facts, ...]] = {}

    def tell(fact: Fact) -> None:
        kind = type(fact)
        concerned = told.get(kind)
        if concerned is None:
            concerned = told[kind] = tuple(hear for hear in hearers if kind in getattr(hear, "hears", (kind,)))
        for hear in concerned:
            hear(fact)

    return tell
