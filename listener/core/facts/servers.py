"""Facts about Redis and PostgreSQL, and what this listener does without them."""

from unlost.listener.core.fact import Fact


class PlacesDeclared(Fact, frozen=True):
    """Claims are kept in these places from now on. ``degraded``: without Redis."""

    places: tuple[str, ...]
    degraded: bool


class ClaimingChanged(Fact, frozen=True):
    """New events may start (our places intersect every live peer's), or may not, and why."""

    open: bool
    why: str


class StoringPaused(Fact, frozen=True):
    """PostgreSQL accepts no rows. Events wait to be stored, and no attempt is counted."""

    why: str


class StoringResumed(Fact, frozen=True):
    """PostgreSQL accepts rows again."""

    seconds: float


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
