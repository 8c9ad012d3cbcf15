"""Facts: what happens to events. The core states them; metrics, logs, health and tests subscribe.

On the hot path one fact covers a whole batch.
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
    """This listener may process these events now."""

    event_ids: Sequence[str]


class EventsStandBy(Fact, frozen=True):
    """Another listener holds these events. They wait here until they are settled."""

    event_ids: Sequence[str]


class EventsTakenOver(Fact, frozen=True):
    """Another owner's leases ran out, and this listener took its events over."""

    event_ids: Sequence[str]


class EventsStored(Fact, frozen=True):
    """These events are rows, written by this listener. ``seconds``: the time since receipt of each."""

    event_ids: Sequence[str]
    seconds: Sequence[float]


class EventsDuplicate(Fact, frozen=True):
    """These events were settled already, or are copies of events that are."""

    event_ids: Sequence[str]


class FramesUnread(Fact, frozen=True):
    """``count`` frames of a peer's share are settled. They ended here without being parsed."""

    count: int


class EventBuried(Fact, frozen=True):
    """This event is a dead letter, on disk."""

    event_id: str
    reason: str
    error_class: str
    message: str
    error_type: str = ""


class LettersResolved(Fact, frozen=True):
    """These letters need no replay: their events are rows, or buried under another letter."""

    letter_ids: Sequence[str]
    why: str


class LettersReopened(Fact, frozen=True):
    """PostgreSQL lost the rows of these resolved letters. They wait for a replay again."""

    letter_ids: Sequence[str]


class HandlerRan(Fact, frozen=True):
    """One attempt of the handler ended."""

    event_id: str
    seconds: float
    succeeded: bool


class AttemptFailed(Fact, frozen=True):
    """One attempt failed. ``retried``: whether another follows. ``count``: how many events shared it.

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
    """Make the fact of a failure."""
    return AttemptFailed(
        failure.stage, failure.error_class, failure.message, retried, count, event_id, failure.error_type,
        failure.traceback,
    )  # fmt: skip


class LeasesLost(Fact, frozen=True):
    """This listener lost leases that it held. Whatever ran for them is cancelled."""

    event_ids: Sequence[str]


class BatchDone(Fact, frozen=True):
    """A stage finished one batch."""

    stage: Literal["claim", "peer_check", "store", "settle", "bury"]
    count: int
    seconds: float


class BreakerChanged(Fact, frozen=True):
    """A circuit breaker changed its state. ``why``: the failure that opened it or kept it open."""

    name: str
    state: str
    why: str = ""


class PlacesDeclared(Fact, frozen=True):
    """Claims are kept in these places from now on. ``degraded``: without Redis."""

    places: tuple[str, ...]
    degraded: bool


class ClaimingChanged(Fact, frozen=True):
    """New events may start (our places intersect every live peer's), or may not, and why."""

    open: bool
    why: str


class SourceConnected(Fact, frozen=True):
    """The source is connected. ``after``: where reading resumed, if the source can resume."""

    url: str
    after: str | None


class SourceLost(Fact, frozen=True):
    """There is no connection to the source. The next attempt follows after ``delay`` seconds.

    ``code`` is the close code: 1006 if a connection ended without one, None if no connection was opened. ``reason`` is
    the text that came with it.
    """

    url: str
    why: str
    delay: float
    code: int | None = None
    reason: str = ""


class SourceGap(Fact, frozen=True):
    """The source no longer knows the cursor. What it dropped before ``resumed_at`` was not received."""

    cursor: str
    resumed_at: str


class ReadingPaused(Fact, frozen=True):
    """Reading from the source stopped: no room is left, or no database answers."""

    why: str


class ReadingResumed(Fact, frozen=True):
    """Reading from the source resumed."""

    seconds: float


class StoringPaused(Fact, frozen=True):
    """PostgreSQL accepts no rows. Events wait to be stored, and no attempt is counted."""

    why: str


class StoringResumed(Fact, frozen=True):
    """PostgreSQL accepts rows again."""

    seconds: float


class CursorSaved(Fact, frozen=True):
    """Everything up to this cursor is settled and recorded in PostgreSQL."""

    cursor: str


class CursorNotSaved(Fact, frozen=True):
    """The cursor could not be saved. The next save replaces it."""

    why: str


class StoreWentBack(Fact, frozen=True):
    """PostgreSQL lacks what it had committed: it was restored, or a standby that was behind took over.

    If the source can resume, the missing events are read again, after the cursor that PostgreSQL still has.
    """

    generation: str


class StoreReplaced(Fact, frozen=True):
    """PostgreSQL crashed or failed over, perhaps without its latest commits. The latest events are read again."""

    place: str


class DeadLetterFileFailed(Fact, frozen=True):
    """The dead-letter file cannot be written. Events to bury are held, and reading stops."""

    why: str


class DeadLetterFileRecovered(Fact, frozen=True):
    """The dead-letter file accepts letters again."""


Facts = Callable[[Fact], None]


def broadcast(*subscribers: Facts) -> Facts:
    """Combine subscribers into one. A subscriber with an attribute ``subscribes_to`` gets only those kinds of facts."""
    by_kind: dict[type[Fact], tuple[Facts, ...]] = {}

    def publish(fact: Fact) -> None:
        kind = type(fact)
        concerned = by_kind.get(kind)
        if concerned is None:
            concerned = tuple(one for one in subscribers if kind in getattr(one, "subscribes_to", (kind,)))
            by_kind[kind] = concerned
        for subscriber in concerned:
            subscriber(fact)

    return publish
