"""Changes of state as metrics: what is away, paused or given up, and for how long. Labels are closed sets."""

from collections.abc import Iterable
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from unlost.listener.core.facts import (
    BreakerChanged,
    ClaimingChanged,
    CursorNotSaved,
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    EffectHostPaused,
    EffectHostResumed,
    Fact,
    GapFetched,
    KeysBlocked,
    NotAcknowledged,
    OrderGivenUp,
    PlacesDeclared,
    ReadingResumed,
    RedisForged,
    RoutePaused,
    RouteResumed,
    SourceGap,
    SourceLost,
    StoreReplaced,
    StoreUnconfirmed,
    StoreWentBack,
    StoringPaused,
    StoringResumed,
)
from unlost.listener.core.gap import Gap, How
from unlost.ops.kit.telemetry.metrics import Stopwatch, made


class StateMetrics:
    """Counts facts about the source, the servers and pauses."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(made, Counter, registry), partial(made, Gauge, registry)
        self._given_up = counter("order_given_up_total", "Letters behind which later events of their keys went on")
        self._stops = gauge("reading_stopped_by_key", "1 while nothing is read, since a key is blocked")
        self._breaker = gauge("breaker_open", "1 while the breaker is open or half open", "name")
        self._degraded = gauge("degraded", "1 while claims are kept without Redis")
        self._degraded_time = Stopwatch("unlost_degraded_seconds", "Seconds in degraded mode", registry)
        self._open = gauge("claiming_open", "1 while new events may be started")
        self._disconnects = counter(
            "source_disconnects_total", "Connections to the source that ended or failed", "source"
        )
        self._gaps = counter(
            "source_gaps_total", "Declared gaps: events of a source that were not received", "source", "how", "size"
        )
        self._missing = counter("source_missing_events_total", "Missing events of declared gaps, if known", "source")
        self._unacknowledged = counter(
            "source_unacknowledged_total", "Messages of a feed that cannot be acknowledged", "source"
        )
        self._fetches = counter("gaps_fetched_total", "Tries to fetch the events of declared gaps", "outcome")
        self._fetched = counter("gap_events_found_total", "Missed events that were fetched later")
        self._paused_seconds = counter("reading_paused_seconds_total", "Seconds for which reading was paused")
        self._storing_paused = gauge("storing_paused", "1 while PostgreSQL takes no rows, and events wait")
        self._routes = gauge("route_paused", "1 while nearly every attempt of the route fails, and it pauses", "route")
        self._hosts_paused = gauge("effect_hosts_paused", "Hosts that take no effects, so that theirs wait")
        self._file_failed = gauge("dead_letter_file_failed", "1 while the dead-letter file cannot be written")
        self._cursor_failures = counter("cursor_save_failures_total", "Writes of the cursor that failed")
        self._stores = counter(
            "store_changes_total", "Times PostgreSQL lacked commits, or may have lacked some", "what"
        )
        self._forged = counter("redis_forged_total", "Settled records in Redis that no listener wrote")
        for metric, values in (
            (self._fetches, ("filled", "partly", "failed", "again")),
            (self._breaker, ("postgres", "redis")),
            (self._stores, ("went_back", "unconfirmed", "replaced")),
        ):
            for value in values:
                metric.labels(value)  # shows 0 before anything has happened

    def show_sources(self, sources: Iterable[str]) -> None:
        """Show 0 for each of these sources before anything has happened: an increase includes the first time."""
        for source in sources:
            for counter in (self._disconnects, self._missing, self._unacknowledged):
                counter.labels(source)
            for how in get_args(How):
                for size in ("known", "unknown"):
                    self._gaps.labels(source, how, size)

    def __call__(self, fact: Fact) -> None:  # noqa: C901  one flat table, fact to metric
        """Count one fact."""
        match fact:
            case BreakerChanged(name, state):
                self._breaker.labels(name).set(state != "closed")
            case PlacesDeclared(degraded=degraded):
                self._degraded.set(degraded)
                self._degraded_time.turn(degraded)
            case ClaimingChanged(is_open):
                self._open.set(is_open)
            case DeadLetterFileFailed():
                self._file_failed.set(1)
            case DeadLetterFileRecovered():
                self._file_failed.set(0)
            case CursorNotSaved():
                self._cursor_failures.inc()
            case RedisForged(count=count):
                self._forged.inc(count)
            case StoreWentBack():
                self._stores.labels("went_back").inc()
            case StoreUnconfirmed():
                self._stores.labels("unconfirmed").inc()
            case StoreReplaced():
                self._stores.labels("replaced").inc()
            case _:
                self._count_flow(fact)

    def _count_flow(self, fact: Fact) -> None:  # noqa: C901
        """Count what a source sends or lacks, and what pauses."""
        match fact:
            case SourceLost(source):
                self._disconnects.labels(source).inc()
            case SourceGap(gap):
                self._gaps.labels(gap.source, gap.how, size_of(gap)).inc()
                self._missing.labels(gap.source).inc(gap.missing or 0)
            case NotAcknowledged(source, count):
                self._unacknowledged.labels(source).inc(count)
            case GapFetched(outcome=outcome, found=found):
                self._fetches.labels(outcome or "again").inc()
                self._fetched.inc(found)
            case ReadingResumed(seconds):
                self._paused_seconds.inc(seconds)
            case StoringPaused():
                self._storing_paused.set(1)
            case StoringResumed():
                self._storing_paused.set(0)
            case RoutePaused(route):
                self._routes.labels(route).set(1)
            case RouteResumed(route):
                self._routes.labels(route).set(0)
            case EffectHostPaused():
                self._hosts_paused.inc()
            case EffectHostResumed():
                self._hosts_paused.dec()
            case OrderGivenUp():
                self._given_up.inc()
            case KeysBlocked(stops):
                self._stops.set(stops)
            case _:
                pass


def size_of(gap: Gap) -> str:
    """Return whether it is known how many events a gap lacks."""
    return "unknown" if gap.missing is None else "known"
