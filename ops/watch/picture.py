"""One picture of a whole system: what each part reported, and the rates since the previous picture. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from unlost.listener.core.pause import Pause
from unlost.listener.observe.changes import StateChange
from unlost.listener.store.postgres.audits import LastAudit
from unlost.ops.watch.figures import Reading, quantile, rate
from unlost.ops.watch.routes import RouteRates, route_of

REDIS = "redis:"
"""Prefix of a place's name if the place is a Redis."""


class Rates(msgspec.Struct, frozen=True):
    """Events a second."""

    received: float = 0.0
    stored: float = 0.0
    duplicate: float = 0.0
    buried: float = 0.0
    failed: float = 0.0
    retried: float = 0.0


class Listener(msgspec.Struct, frozen=True, kw_only=True):
    """One listener. If it did not answer, ``error`` says why, and nothing else is known."""

    url: str
    name: str
    error: str = ""
    unmeasured: str = ""
    """Why its metrics are not known although it reports its health."""
    ready: bool = False
    reasons: tuple[str, ...] = ()
    since: Mapping[str, float] = msgspec.field(default_factory=dict)
    """The part that it reports as missing, and since when."""
    changes: tuple[StateChange, ...] = ()
    phase: str = "unknown"
    handler: str | None = None
    """The name of its handler, as it declares it."""
    degraded: bool = False
    places: tuple[str, ...] = ()
    breakers: Mapping[str, str] = msgspec.field(default_factory=dict)
    causes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """For each breaker that is not closed: the failure that opened it, or keeps it open."""
    routes_paused: Mapping[str, str] = msgspec.field(default_factory=dict)
    """The routes of its handler that pause, each with the error of its attempts."""
    pauses: tuple[Pause, ...] = ()
    """The pauses that people set: of itself, or of routes of its handler."""
    pausing: int = 0
    """Events that wait for another attempt, or for a route."""
    routes: tuple[RouteRates, ...] = ()
    source_lost: str = ""
    """How its last connection to the source ended (close code and reason), or why it could not connect."""
    connected: bool = False
    in_memory: int = 0
    holds: int = 0
    standing_by: int = 0
    cursor: str | None = None
    lag: int | None = None
    """Accepted events that are not settled as far as it knows: not yet received, or received and not settled."""
    loop_lag: float = 0.0
    oldest: float = 0.0
    """Seconds that the oldest event in its memory has been unsettled."""
    claim_seconds: float | None = None
    store_seconds: float | None = None
    """Median seconds that a batch takes now, to claim (mostly Redis) and to store (PostgreSQL)."""
    letters: int = 0
    rates: Rates = Rates()
    typical_seconds: float | None = None
    slow_seconds: float | None = None

    @property
    def state(self) -> str:
        """Its state in one word, for a table."""
        if self.error:
            return "away"
        if not self.ready:
            return "unready"
        return "degraded" if self.degraded else "ready"

    @property
    def open_breakers(self) -> tuple[str, ...]:
        """Servers whose breaker is not closed in this listener."""
        return tuple(name for name, state in sorted(self.breakers.items()) if state != "closed")


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """The producer, if the system has Unlost's own."""

    url: str
    error: str = ""
    ready: bool = False
    reasons: tuple[str, ...] = ()
    newest: int | None = None
    entries: int | None = None
    clients: int = 0
    accepted: float = 0.0


class Mark(msgspec.Struct, frozen=True):
    """PostgreSQL's record of a listener: when it last reported, and how often it started lately.

    A process that ends in order removes its record. So each start but one follows a process that was killed.
    """

    seen_at: float
    starts: int
    alive: int = 1
    """How many processes report with this name now."""


class FailureGroup(msgspec.Struct, frozen=True):
    """Waiting letters that failed in the same way. Their messages are left out, since these could quote a payload."""

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
    kinds: tuple[FailureGroup, ...] = ()
    fleet: bool = False
    """Whether these are the letters of all instances, in PostgreSQL's list instead of a file."""
    healing: int = 0
    """How many of those that wait are tried again by listeners, and when next."""
    next_try_at: float | None = None

    @property
    def needs_human(self) -> int:
        """How many wait for a human."""
        return self.waiting - self.healing


class DatabaseState(msgspec.Struct, frozen=True, kw_only=True):
    """PostgreSQL. ``rows`` is exact, or the planner's estimate if there are many."""

    error: str = ""
    milliseconds: float = 0.0
    rows: int = 0
    estimated: bool = False
    settled_up_to: str | None = None
    listeners_seen: Mapping[str, Mark] = msgspec.field(default_factory=dict)
    letters: LetterFile | None = None
    """The fleet's list of letters; None: it did not answer, or is not there."""
    audit: LastAudit | None = None
    """The last audit of all events, if there was one."""
    back_for: float | None = None
    """Seconds since it last failed to answer; None: it has always answered, as far as is known."""


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """The whole system at one moment. ``stalled``: seconds without progress while events waited."""

    at: float
    listeners: tuple[Listener, ...] = ()
    producer: Producer | None = None
    database: DatabaseState | None = None
    letter_files: tuple[LetterFile, ...] = ()
    stalled: float = 0.0
    apart: bool = False
    """Whether listeners used different Redis databases in two pictures in a row."""

    @property
    def redis_places(self) -> Mapping[str, tuple[str, ...]]:
        """Each Redis in which listeners keep claims now, with the names of those listeners."""
        found: dict[str, tuple[str, ...]] = {}
        for one in self.listeners:
            for place in one.places:
                if not one.error and not one.degraded and place.startswith(REDIS):
                    found[place] = (*found.get(place, ()), one.name)
        return found

    @property
    def behind(self) -> int | None:
        """How many accepted events are not settled: the smallest number that any part knows, as it is the most recent.

        This is not the distance to the cursor: one slow event holds the cursor back, while all later ones may be rows.
        """
        if self.producer is None or self.producer.newest is None:
            return None
        settled = ordinal(self.database.settled_up_to) if self.database else None
        known = [one.lag for one in self.listeners if one.lag is not None]
        known += [max(0, self.producer.newest - settled)] if settled is not None else []
        return min(known, default=None)


def ordinal(cursor: str | None) -> int | None:
    """The number at the end of a cursor of Unlost's own journal."""
    digits = (cursor or "").rpartition(".")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def listener_of(
    url: str, health: Mapping[str, Any], before: Reading | None, now: Reading, newest: int | None
) -> Listener:
    """Describe a listener that answered."""
    sources = health.get("sources", ())
    return Listener(
        url=url,
        name=str(health.get("instance", url)),
        ready=bool(health.get("ready")),
        reasons=tuple(map(str, health.get("reasons", ()))),
        since={str(name): float(at) for name, at in health.get("since", {}).items()},
        changes=msgspec.convert(health.get("changes", []), tuple[StateChange, ...]),
        phase=str(health.get("phase", "unknown")),
        handler=health.get("handler"),
        degraded=health.get("mode") == "degraded",
        places=tuple(map(str, health.get("places", ()))),
        breakers={str(name): str(state) for name, state in health.get("breakers", {}).items()},
        causes={str(name): str(why) for name, why in health.get("breaker_causes", {}).items()},
        routes_paused={str(route): str(why) for route, why in health.get("routes_paused", {}).items()},
        pauses=msgspec.convert(health.get("pauses", ()), tuple[Pause, ...]),
        pausing=int(health.get("events_pausing", 0)),
        routes=tuple(route_of(str(name), int(count), before, now) for name, count in health.get("routes", {}).items()),
        source_lost="; ".join(str((one.get("lost") or {}).get("why", "")) for one in sources if one.get("lost")),
        connected=bool(health.get("checks", {}).get("source")),
        in_memory=int(health.get("in_memory", 0)),
        holds=int(health.get("claims_held", 0)),
        standing_by=int(health.get("standing_by", 0)),
        cursor=next((one["cursor"] for one in sources if one.get("cursor")), None),
        lag=_not_settled(sources, newest),
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


def _not_settled(sources: Sequence[Mapping[str, Any]], newest: int | None) -> int | None:
    """Count what is behind our producer's newest entry. Only its stream has cursors that end with a number."""
    for one in sources:
        received, unsettled = ordinal(one.get("received")), int(one.get("unsettled", 0))
        if received is None:
            received, unsettled = ordinal(one.get("cursor")), 0
        if newest is not None and received is not None:
            return max(0, newest - received) + unsettled
    return None


def producer_of(url: str, health: Mapping[str, Any], before: Reading | None, now: Reading) -> Producer:
    """Describe a producer that answered."""
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
    """The handler of a ready listener; None if no listener is ready, or none has a handler."""
    return next((one.handler for one in picture.listeners if one.ready and one.handler), None)
