"""Facts as Prometheus metrics. Labels are closed sets; an id is never a label.

Facts about single events are added up, and passed to the library together: when there are many, or at a scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from unlost.listener.core.facts import (
    AttemptFailed,
    BatchDone,
    BreakerChanged,
    ClaimingChanged,
    CursorNotSaved,
    DeadLetterFileFailed,
    DeadLetterFileRecovered,
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EffectHostPaused,
    EffectHostResumed,
    EffectsRecorded,
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsStandBy,
    EventsStored,
    EventsTakenOver,
    Fact,
    FramesReceived,
    FramesUnread,
    GapFetched,
    HandlerRan,
    KeysBlocked,
    LeasesLost,
    LettersResolved,
    LettersTriedInVain,
    NotificationEnded,
    OrderGivenUp,
    PlacesDeclared,
    ReadingResumed,
    RedisForged,
    RoutePaused,
    RouteResumed,
    SourceGap,
    StoreReplaced,
    StoreUnconfirmed,
    StoreWentBack,
    StoringPaused,
    StoringResumed,
)
from unlost.listener.observe.letters import REASONS
from unlost.ops.kit.telemetry.metrics import COUNTS, BatchHistogram, Stopwatch

KEPT = 64
"""At most this many batches, handler runs or event times wait to be counted."""


class ListenerMetrics:
    """Counts facts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._claimed = self._received = self._received_bytes = 0
        self._times: list[float] = []
        self._batches: list[BatchDone] = []
        self._ran: list[HandlerRan] = []
        registry.register(_Before(self._count_kept))

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"unlost_{name}", about, labels, registry=registry)

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"unlost_{name}", about, labels, registry=registry)

        self._frames = counter("frames_received_total", "Frames received from the source")
        self._frame_bytes = counter("frame_bytes_total", "Bytes of the frames received")
        self._events = counter("events_total", "Events ended here, by how they ended", "outcome")
        self._letters = counter("letters_total", "Dead letters written", "reason", "error_class")
        self._resolved = counter("letters_resolved_total", "Letters that needed no replay, or healed")
        self._vain = counter("letters_tried_in_vain_total", "Letters that failed again when they were retried")
        self._claims = counter("claims_total", "Answers to claims", "answer")
        self._failures = counter("attempts_failed_total", "Failed attempts", "stage", "error_class")
        self._retries = counter("retries_total", "Failed attempts that were followed by another", "stage")
        self._notifications = counter("notifications_total", "Notifications, by receiver", "target", "outcome")
        self._leases = counter("leases_lost_total", "Leases lost while their events were in memory")
        self._given_up = counter("order_given_up_total", "Letters behind which later events of their keys went on")
        self._stops = gauge("reading_stopped_by_key", "1 while nothing is read, since a key is blocked")
        self._runs = counter("handler_runs_total", "Attempts of the handler", "route", "result")
        self._run_again = counter("handler_retries_total", "Attempts that were not the first of their event", "route")
        self._breaker = gauge("breaker_open", "1 while the breaker is open or half open", "name")
        self._degraded = gauge("degraded", "1 while claims are kept without Redis")
        self._degraded_time = Stopwatch("unlost_degraded_seconds", "Seconds in degraded mode", registry)
        self._open = gauge("claiming_open", "1 while new events may be started")
        self._disconnects = counter("source_disconnects_total", "Connections to the source that ended or failed")
        self._gaps = counter("source_gaps_total", "Declared gaps: events of a source that were not received")
        self._missing = counter("source_missing_events_total", "Missing events of declared gaps, if known")
        self._fetches = counter("gaps_fetched_total", "Tries to fetch the events of declared gaps", "outcome")
        self._fetched = counter("gap_events_found_total", "Missed events that were fetched later")
        self._paused_seconds = counter("reading_paused_seconds_total", "Seconds for which reading was paused")
        self._storing_paused = gauge("storing_paused", "1 while PostgreSQL takes no rows, and events wait")
        self._routes = gauge("route_paused", "1 while nearly every attempt of the route fails, and it pauses", "route")
        self._effects = counter("effects_total", "Effects of handlers, by what became of them", "outcome")
        self._effect_seconds = BatchHistogram(
            "unlost_effect_seconds", "One delivery of an effect that succeeded", registry
        )
        self._hosts_paused = gauge("effect_hosts_paused", "Hosts that take no effects, so that theirs wait")
        self._file_failed = gauge("dead_letter_file_failed", "1 while the dead-letter file cannot be written")
        self._cursor_failures = counter("cursor_save_failures_total", "Writes of the cursor that failed")
        self._stores = counter(
            "store_changes_total", "Times PostgreSQL lacked commits, or may have lacked some", "what"
        )
        self._forged = counter("redis_forged_total", "Settled records in Redis that no listener wrote")
        self._settle = BatchHistogram("unlost_settle_seconds", "From receipt to settlement", registry)
        self._handler = BatchHistogram("unlost_handler_seconds", "One attempt of the handler", registry, label="route")
        self._batch = BatchHistogram(
            "unlost_batch_events", "Events in a batch", registry, buckets=COUNTS, label="stage"
        )
        self._stage = BatchHistogram("unlost_batch_seconds", "One batch of a stage", registry, label="stage")
        self._show_from_the_start()
        self._stored, self._won = self._events.labels("stored"), self._claims.labels("won")

    def show_routes(self, routes: Iterable[str]) -> None:
        """Show 0 for each of these routes before one of their attempts has ended."""
        for route in routes:
            self._count_runs(route, ())

    def _show_from_the_start(self) -> None:
        """Show 0 before anything has happened: a rate then includes the first time, and nothing looks unknown."""
        for metric, values in (
            (self._events, ("stored", "duplicate", "buried")),
            (self._claims, ("won", "held", "taken_over")),
            (self._effects, ("recorded", "delivered", "failed", "buried")),
            (self._fetches, ("filled", "partly", "failed", "again")),
            (self._retries, ("start", "handle", "store", "stop")),
            (self._breaker, ("postgres", "redis")),
            (self._stores, ("went_back", "unconfirmed", "replaced")),
        ):
            for value in values:
                metric.labels(value)
        for error_class in ("transient", "permanent"):
            for stage in ("start", "handle", "store", "stop"):
                self._failures.labels(stage, error_class)
            for reason in REASONS:
                self._letters.labels(reason, error_class)

    def __call__(self, fact: Fact) -> None:
        """Count one fact, now or soon. Frequent facts are matched by type alone, without further checks."""
        kept = 0
        if type(fact) is BatchDone:
            self._batches.append(fact)
            kept = len(self._batches)
        elif type(fact) is EventsClaimed:
            self._claimed += len(fact.event_ids)
        elif type(fact) is FramesReceived:
            self._received += fact.count
            self._received_bytes += fact.size
        elif type(fact) is EventsStored:
            self._times += fact.seconds
            kept = len(self._times)
        elif type(fact) is HandlerRan:
            self._ran.append(fact)
            kept = len(self._ran)
        else:
            self._count_what_is_rarer(fact)
        if kept >= KEPT:
            self._count_kept()

    def _count_kept(self) -> None:
        self._frames.inc(self._received)
        self._frame_bytes.inc(self._received_bytes)
        self._won.inc(self._claimed)
        self._received = self._received_bytes = self._claimed = 0
        times, self._times = self._times, []
        self._stored.inc(len(times))
        self._settle.observe_many(times)
        batches, self._batches = self._batches, []
        for stage in sorted({batch.stage for batch in batches}):
            of_stage = [batch for batch in batches if batch.stage == stage]
            self._batch.observe_many([batch.count for batch in of_stage], stage)
            self._stage.observe_many([batch.seconds for batch in of_stage], stage)
        ran, self._ran = self._ran, []
        for route in dict.fromkeys([run.route for run in ran]):
            self._count_runs(route, [run for run in ran if run.route == route])

    def _count_runs(self, route: str, ran: Sequence[HandlerRan]) -> None:
        succeeded = sum([run.succeeded for run in ran])
        self._runs.labels(route, "succeeded").inc(succeeded)
        self._runs.labels(route, "failed").inc(len(ran) - succeeded)
        self._run_again.labels(route).inc(sum([run.number > 1 for run in ran]))
        self._handler.observe_many([run.seconds for run in ran], route)

    def _count_what_is_rarer(self, fact: Fact) -> None:
        match fact:
            case AttemptFailed(stage=stage, error_class=error_class, retried=retried, count=count):
                self._failures.labels(stage, error_class).inc(count)
                if retried:
                    self._retries.labels(stage).inc(count)
            case EventsDuplicate(event_ids):
                self._events.labels("duplicate").inc(len(event_ids))
            case FramesUnread(count):
                self._events.labels("duplicate").inc(count)
            case EventsStandBy(event_ids):
                self._claims.labels("held").inc(len(event_ids))
            case EventsTakenOver(event_ids):
                self._claims.labels("taken_over").inc(len(event_ids))
            case EventBuried(reason=reason, error_class=error_class):
                self._events.labels("buried").inc()
                self._letters.labels(reason, error_class).inc()
            case LeasesLost(event_ids):
                self._leases.inc(len(event_ids))
            case EffectsRecorded() | EffectDelivered() | EffectFailed() | EffectBuried() | NotificationEnded():
                self._count_calls(fact)
            case _:
                self._count_change_of_state(fact)

    def _count_calls(
        self, fact: EffectsRecorded | EffectDelivered | EffectFailed | EffectBuried | NotificationEnded
    ) -> None:
        match fact:
            case NotificationEnded(target=target, why=why):
                self._notifications.labels(target, "given_up" if why else "sent").inc()
            case EffectsRecorded(count):
                self._effects.labels("recorded").inc(count)
            case EffectDelivered(seconds=seconds):
                self._effects.labels("delivered").inc()
                self._effect_seconds.observe_many([seconds])
            case EffectFailed():
                self._effects.labels("failed").inc()
            case EffectBuried(error_class=error_class):
                self._effects.labels("buried").inc()
                self._letters.labels("effect", error_class).inc()

    def _count_change_of_state(self, fact: Fact) -> None:  # noqa: C901
        match fact:
            case LettersResolved(letter_ids):
                self._resolved.inc(len(letter_ids))
            case LettersTriedInVain(count):
                self._vain.inc(count)
            case BreakerChanged(name, state):
                self._breaker.labels(name).set(state != "closed")
            case PlacesDeclared(degraded=degraded):
                self._degraded.set(degraded)
                self._degraded_time.turn(degraded)
            case ClaimingChanged(is_open):
                self._open.set(is_open)
                self._disconnects.inc()
            case SourceGap(gap):
                self._gaps.inc()
                self._missing.inc(gap.missing or 0)
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
            case DeadLetterFileFailed():
                self._file_failed.set(1)
            case DeadLetterFileRecovered():
                self._file_failed.set(0)
            case OrderGivenUp():
                self._given_up.inc()
            case KeysBlocked(stops):
                self._stops.set(stops)
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
                pass


class _Before(Collector):
    """Registered first, so collected first: pending facts are counted before any metric is read."""

    def __init__(self, count: Callable[[], None]) -> None:
        self._count = count

    def collect(self) -> Iterator[Metric]:
        """Count what is pending; there are no metrics of its own."""
        self._count()
        return iter(())

    def describe(self) -> Iterator[Metric]:
        """Describe nothing."""
        return iter(())
