"""Facts about events: received, claimed, handled, stored, settled. On the hot path one fact covers a whole batch."""

from collections.abc import Sequence
from typing import Literal

from unlost.listener.core.errors import Failure
from unlost.listener.core.fact import Fact


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


class EventsOfOtherShards(Fact, frozen=True):
    """``count`` received events belong to other shards, which store them. They ended here without being claimed."""

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
    """This listener lost leases that it held. Their work is cancelled."""

    event_ids: Sequence[str]


class BatchDone(Fact, frozen=True):
    """A stage finished one batch."""

    stage: Literal["claim", "peer_check", "store", "settle", "bury"]
    count: int
    seconds: float
