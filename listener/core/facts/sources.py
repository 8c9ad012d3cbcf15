"""Facts about sources: connections, gaps, the cursor."""

from unlost.listener.core.fact import Fact
from unlost.listener.core.gap import FetchOutcome, Gap


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


class NotAcknowledged(Fact, frozen=True):
    """``count`` messages of a source cannot be acknowledged: they lack what the acknowledgement must contain."""

    source: str
    count: int


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


class CursorSaved(Fact, frozen=True):
    """Everything up to this cursor is settled and recorded in PostgreSQL."""

    cursor: str


class CursorNotSaved(Fact, frozen=True):
    """The cursor could not be saved. The next save replaces it."""

    why: str
