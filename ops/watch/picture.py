"""One picture of a whole system: what each part said of itself, and the rates since the picture before. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from listener.observe.changes import Change
from ops.watch.figures import Reading, quantile, rate


class Rates(msgspec.Struct, frozen=True):
    """Events a second."""

    received: float = 0.0
    stored: float = 0.0
    duplicate: float = 0.0
    buried: float = 0.0
    failed: float = 0.0
    retried: float = 0.0


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One listener. ``error`` says why it could not be asked; then nothing else is known."""

    url: str
    name: str
    error: str = ""
    unmeasured: str = ""
    """Why its figures are not known, though it tells its health."""
    ready: bool = False
    reasons: tuple[str, ...] = ()
    since: Mapping[str, float] = msgspec.field(default_factory=dict)
    """What it lacks, by its own account, and since when."""
    changes: tuple[Change, ...] = ()
    phase: str = "unknown"
    handler: str | None = None
    """What it declares that its handler is called."""
    degraded: bool = False
    places: tuple[str, ...] = ()
    breakers: Mapping[str, str] = msgspec.field(default_factory=dict)
    connected: bool = False
    in_memory: int = 0
    holds: int = 0
    standing_by: int = 0
    cursor: str | None = None
    lag: int | None = None
    loop_lag: float = 0.0
    oldest: float = 0.0
    """Seconds for which the oldest event in its memory has not been settled."""
    claim_seconds: float | None = None
    store_seconds: float | None = None
    """What a batch typically takes now, to claim (mostly Redis) and to store (PostgreSQL)."""
    letters: int = 0
    rates: Rates = Rates()
    typical_seconds: float | None = None
    slow_seconds: float | None = None

    @property
    def state(self) -> str:
        """One word for a table."""
        if self.error:
            return "away"
        if not self.ready:
            return "unready"
        return "degraded" if self.degraded else "ready"

    @property
    def open_breakers(self) -> tuple[str, ...]:
        """Servers that this listener holds for lost."""
        return tuple(name for name, state in sorted(self.breakers.items()) if state != "closed")


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """The producer, if the system has one of ours."""

    url: str
    error: str = ""
    ready: bool = False
    reasons: tuple[str, ...] = ()
    newest: int | None = None
    entries: int | None = None
    clients: int = 0
    accepted: float = 0.0


class Mark(msgspec.Struct, frozen=True):
    """What PostgreSQL remembers of a listener: when it last reported, and how often it started lately.

    Who ends in order is taken off the roll, so each start but one is the heir of a process that was killed.
    """

    seen_at: float
    starts: int


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL. ``rows`` counts what was ever stored (retention may have taken some)."""

    error: str = ""
    milliseconds: float = 0.0
    rows: int = 0
    settled_up_to: str | None = None
    roll: Mapping[str, Mark] = msgspec.field(default_factory=dict)
    back_for: float | None = None
    """Seconds for which it answers again, after it was seen not to; None: it always did, as far as is known."""


class Kind(msgspec.Struct, frozen=True):
    """Letters that wait and failed alike, without any word of theirs: that could quote a payload."""

    fingerprint: str
    reason: str
    stage: str
    error_type: str
    waiting: int


class LetterFile(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one dead-letter file."""

    path: str
    error: str = ""
    letters: int = 0
    by_state: Mapping[str, int] = msgspec.field(default_factory=dict)
    waiting: int = 0
    oldest_waiting_at: float | None = None
    damaged: int = 0
    kinds: tuple[Kind, ...] = ()


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """The whole system at one moment. ``stalled`` counts seconds without progress while events waited."""

    at: float
    listeners: tuple[Listener, ...] = ()
    producer: Producer | None = None
    database: Database | None = None
    letter_files: tuple[LetterFile, ...] = ()
    stalled: float = 0.0

    @property
    def behind(self) -> int | None:
        """How many accepted events stand behind what is known to be settled, by whoever is ahead."""
        if self.producer is None or self.producer.newest is None:
            return None
        known = [one.cursor for one in self.listeners] + [self.database.settled_up_to if self.database else None]
        reached = [number for cursor in known if (number := ordinal(cursor)) is not None]
        return max(0, self.producer.newest - max(reached)) if reached else None


def ordinal(cursor: str | None) -> int | None:
    """The number at the end of a cursor of our own journal."""
    digits = (cursor or "").rpartition(".")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def listener_of(
    url: str, health: Mapping[str, Any], before: Reading | None, now: Reading, newest: int | None
) -> Listener:
    """A listener that answered."""
    place = ordinal(health.get("cursor"))
    return Listener(
        url=url,
        name=str(health.get("instance", url)),
        ready=bool(health.get("ready")),
        reasons=tuple(map(str, health.get("reasons", ()))),
        since={str(name): float(at) for name, at in health.get("since", {}).items()},
        changes=msgspec.convert(health.get("changes", []), tuple[Change, ...]),
        phase=str(health.get("phase", "unknown")),
        handler=health.get("handler"),
        degraded=health.get("mode") == "degraded",
        places=tuple(map(str, health.get("places", ()))),
        breakers={str(name): str(state) for name, state in health.get("breakers", {}).items()},
        connected=bool(health.get("checks", {}).get("source")),
        in_memory=int(health.get("in_memory", 0)),
        holds=int(health.get("claims_held", 0)),
        standing_by=int(health.get("standing_by", 0)),
        cursor=health.get("cursor"),
        lag=None if newest is None or place is None else max(0, newest - place),
        loop_lag=float(health.get("loop_lag_seconds", 0.0)),
        oldest=now.total("unlost_oldest_unsettled_seconds"),
        claim_seconds=quantile(before, now, "unlost_batch_seconds", 0.5, stage="claim"),
        store_seconds=quantile(before, now, "unlost_batch_seconds", 0.5, stage="store"),
        letters=int(now.total("unlost_letters_total")),
        rates=Rates(
            received=rate(before, now, "unlost_frames_received_total"),
            stored=rate(before, now, "unlost_events_total", outcome="stored"),
            duplicate=rate(before, now, "unlost_events_total", outcome="duplicate"),
            buried=rate(before, now, "unlost_events_total", outcome="buried"),
            failed=rate(before, now, "unlost_attempts_failed_total"),
            retried=rate(before, now, "unlost_retries_total"),
        ),
        typical_seconds=quantile(before, now, "unlost_settle_seconds", 0.5),
        slow_seconds=quantile(before, now, "unlost_settle_seconds", 0.99),
    )


def producer_of(url: str, health: Mapping[str, Any], before: Reading | None, now: Reading) -> Producer:
    """A producer that answered."""
    return Producer(
        url=url,
        ready=bool(health.get("ready")),
        reasons=tuple(map(str, health.get("reasons", ()))),
        newest=health.get("newest"),
        entries=health.get("entries"),
        clients=int(health.get("clients", 0)),
        accepted=sum(
            rate(before, now, "unlost_producer_published_total", outcome=word) for word in ("accepted", "redelivered")
        ),
    )


def handler_at_work(picture: Picture) -> str | None:
    """The handler of the listeners that are ready; None where they have none, or none of them is."""
    return next((one.handler for one in picture.listeners if one.ready and one.handler), None)
