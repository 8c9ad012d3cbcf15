"""Facts: what happens to events. The core states them; metrics, logs, health and tests subscribe.

On the hot path one fact covers a whole batch.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from unlost.listener.core.errors import Failure
from unlost.listener.core.gap import FetchOutcome, Gap
from unlost.listener.core.pause import Paused

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


class OrderGivenUp(Fact, frozen=True):
    """This event became a letter, and later events of its key do not wait for it."""

    event_id: str


class KeysBlocked(Fact, frozen=True):
    """Reading stops or continues, since a key is blocked, or none is any more."""

    stops: bool


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
    """A peer has settled ``count`` frames of its share. They ended here without being parsed."""

    count: int


class EventsDiffer(Fact, frozen=True):
    """Events whose ids are hashes seem to differ for each connection.

    While this listener stored ``stored`` of them and met ``known`` that were settled, its peers stored ``of_peers``.
    """

    stored: int
    known: int
    of_peers: int


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


class LettersTriedInVain(Fact, frozen=True):
    """This listener retried letters that had failed alike, and they failed again."""

    count: int
    fingerprint: str
    why: str


class HealingInterrupted(Fact, frozen=True):
    """PostgreSQL failed while letters that had failed alike were retried. They are retried again soon."""

    fingerprint: str
    why: str


class AttemptStarted(Fact, frozen=True):
    """One attempt of the handler starts. Stated in the context of the handler: what is set there, its code sees."""

    event_id: str
    route: str
    number: int


class HandlerRan(Fact, frozen=True):
    """One attempt of the handler ended. ``route``: a function of it, by name. ``number`` counts an event's attempts."""

    event_id: str
    seconds: float
    succeeded: bool
    route: str = ""
    number: int = 1


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
    """The source is connected. ``after``: the cursor after which reading resumed, if the source can resume."""

    url: str
    after: str | None


class SourceLost(Fact, frozen=True):
    """There is no connection to the source. The next attempt follows after ``delay`` seconds.

    ``code`` is the close code: 1006 if a connection ended without one, None if no connection was opened. ``reason`` is
    the text that came with it. ``traceback`` is that of an error that nobody expected.
    """

    url: str
    why: str
    delay: float
    code: int | None = None
    reason: str = ""
    traceback: str = ""


class SourceGap(Fact, frozen=True):
    """Events of a source were not received: a declared gap."""

    gap: Gap


class GapFetched(Fact, frozen=True):
    """A gap's events were fetched, or not: ``why``. ``outcome``: None if it is tried again.

    ``found``: how many came of which nothing was known, and are rows or letters now.
    """

    source: str
    gap_id: str
    outcome: FetchOutcome | None
    found: int
    tries: int
    why: str = ""


class GapNotRecorded(Fact, frozen=True):
    """PostgreSQL refused to record ``count`` declared gaps. The log has them."""

    count: int
    why: str


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


class NotificationEnded(Fact, frozen=True):
    """People were notified of something; or, with a reason, that was given up."""

    key: str
    target: str
    why: str


class PauseBegan(Fact, frozen=True):
    """A person paused this listener, or a route of its handler."""

    kind: Paused
    name: str
    by: str
    why: str


class PauseEnded(Fact, frozen=True):
    """A person ended a pause."""

    kind: Paused
    name: str


class RoutePaused(Fact, frozen=True):
    """Nearly every attempt of this route fails in the same way. Its events wait, and no attempt is counted."""

    route: str
    why: str


class RouteResumed(Fact, frozen=True):
    """An attempt of this route has succeeded, and its events flow again."""

    route: str
    seconds: float


class EffectsRecorded(Fact, frozen=True):
    """So many effects were committed with their rows."""

    count: int


class EffectDelivered(Fact, frozen=True):
    """A receiver took this effect. ``seconds``: how long the delivery took."""

    event_id: str
    key: str
    seconds: float


class EffectFailed(Fact, frozen=True):
    """A delivery failed, and another follows. ``counts``: it is one of its attempts, as its host does not pause."""

    event_id: str
    key: str
    host: str
    why: str
    counts: bool


class EffectBuried(Fact, frozen=True):
    """This effect is a dead letter, on disk. Its event is a row."""

    event_id: str
    key: str
    error_class: str
    message: str


class EffectHostPaused(Fact, frozen=True):
    """Nearly every delivery to this host fails in the same way. Its effects wait, and no attempt is counted."""

    host: str
    why: str


class EffectHostResumed(Fact, frozen=True):
    """This host takes effects again."""

    host: str
    seconds: float


class CursorSaved(Fact, frozen=True):
    """Everything up to this cursor is settled and recorded in PostgreSQL."""

    cursor: str


class CursorNotSaved(Fact, frozen=True):
    """The cursor could not be saved. The next save replaces it."""

    why: str


class StoreWentBack(Fact, frozen=True):
    """PostgreSQL lacks what it had committed: it was restored, or a standby that was behind was promoted.

    If the source can resume, the missing events are read again, after the cursor that PostgreSQL still has.
    """

    generation: str


class StoreUnconfirmed(Fact, frozen=True):
    """A listener or replay started, and Redis did not confirm that PostgreSQL has all that it had committed.

    Nothing shows a loss. To be safe, the latest events are read again, as after a loss.
    """

    generation: str


class RedisForged(Fact, frozen=True):
    """Redis held settled records that no listener of the group wrote. They were deleted, and their events claimed."""

    count: int


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
