"""Facts as Prometheus metrics. Labels are closed sets; an id is never a label.

Facts about single events are added up, and passed to the library together: when there are many, or at a scrape.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from unlost.listener.core.facts import (
    AttemptFailed,
    BatchDone,
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EffectsRecorded,
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsOfOtherShards,
    EventsStandBy,
    EventsStored,
    EventsTakenOver,
    Fact,
    FramesReceived,
    FramesUnread,
    HandlerRan,
    LeasesLost,
    LettersResolved,
    LettersTriedInVain,
    NotificationEnded,
)
from unlost.listener.observe.letters import REASONS
from unlost.listener.observe.state_metrics import StateMetrics
from unlost.ops.kit.telemetry.metrics import COUNTS, BatchHistogram, made

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

        self._states = StateMetrics(registry)
        counter = partial(made, Counter, registry)
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
        self._runs = counter("handler_runs_total", "Attempts of the handler", "route", "result")
        self._run_again = counter("handler_retries_total", "Attempts that were not the first of their event", "route")
        self._effects = counter("effects_total", "Effects of handlers, by what became of them", "outcome")
        self._effect_seconds = BatchHistogram(
            "unlost_effect_seconds", "One delivery of an effect that succeeded", registry
        )
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

    def show_sources(self, sources: Iterable[str]) -> None:
        """Show 0 for each of these sources before anything has happened."""
        self._states.show_sources(sources)

    def _show_from_the_start(self) -> None:
        """Show 0 before anything has happened: a rate then includes the first time, and nothing looks unknown."""
        for metric, values in (
            (self._events, ("stored", "duplicate", "buried", "other_shard")),
            (self._claims, ("won", "held", "taken_over")),
            (self._effects, ("recorded", "delivered", "failed", "buried")),
            (self._retries, ("start", "handle", "store", "stop")),
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

    def _count_what_is_rarer(self, fact: Fact) -> None:  # noqa: C901
        match fact:
            case AttemptFailed(stage=stage, error_class=error_class, retried=retried, count=count):
                self._failures.labels(stage, error_class).inc(count)
                if retried:
                    self._retries.labels(stage).inc(count)
            case EventsDuplicate(event_ids):
                self._events.labels("duplicate").inc(len(event_ids))
            case FramesUnread(count):
                self._events.labels("duplicate").inc(count)
            case EventsOfOtherShards(count):
                self._events.labels("other_shard").inc(count)
            case EventsStandBy(event_ids):
                self._claims.labels("held").inc(len(event_ids))
            case EventsTakenOver(event_ids):
                self._claims.labels("taken_over").inc(len(event_ids))
            case EventBuried(reason=reason, error_class=error_class):
                self._events.labels("buried").inc()
                self._letters.labels(reason, error_class).inc()
            case LettersResolved(letter_ids):
                self._resolved.inc(len(letter_ids))
            case LettersTriedInVain(count):
                self._vain.inc(count)
            case LeasesLost(event_ids):
                self._leases.inc(len(event_ids))
            case EffectsRecorded() | EffectDelivered() | EffectFailed() | EffectBuried() | NotificationEnded():
                self._count_calls(fact)
            case _:
                self._states(fact)

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
