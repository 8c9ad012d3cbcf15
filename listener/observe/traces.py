"""Facts as spans of OpenTelemetry: one span for each event that this listener owns, with a child for each stage.

All ids are derived from the event's id, so listeners need not ask each other. An event without a ``traceparent`` has
the same trace in every listener. The span of an earlier owner can be linked by its epoch alone.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from opentelemetry import context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)
from opentelemetry.trace.propagation import get_current_span

from unlost.listener.core.facts import (
    AttemptFailed,
    AttemptStarted,
    BatchDone,
    EffectBuried,
    EffectDelivered,
    EffectFailed,
    EventBuried,
    EventsClaimed,
    EventsDuplicate,
    EventsStored,
    Fact,
    HandlerRan,
    LeasesLost,
)
from unlost.listener.core.in_flight import Buried, InFlight, Stored
from unlost.listener.observe.trace_context import attributes_of, link_to, parent_of, source_of
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.otel.context import trace_id_of
from unlost.ops.kit.telemetry.otel.export import GivenIds
from unlost.ops.kit.telemetry.redact import UNMASKED, Redactor, content_of

MOST = 50_000
"""Events with an open span. Beyond this, further ones are not traced."""
LONGEST = 500
"""The length of an error's text, in characters."""
FIRST = 1
REMEMBERED = 10_000
"""Events that became rows here lately. Their effects are delivered soon afterwards."""
ERROR = StatusCode.ERROR


@dataclass(slots=True)
class OpenSpan:
    """An event whose span is open. ``stage_began``: when its present stage began, in ns."""

    flight: InFlight
    span: Span
    stage_began: int
    attempt: Span | None = None
    attempt_ended: int = 0
    earlier: list[Link] = field(default_factory=list)
    """The attempt before the next one."""


class Traces:
    """Subscribes to facts. ``find`` returns an event that is in memory, by its id."""

    subscribes_to = frozenset((
        AttemptFailed, AttemptStarted, BatchDone, EffectBuried, EffectDelivered, EffectFailed, EventBuried,
        EventsClaimed, EventsDuplicate, EventsStored, HandlerRan, LeasesLost,
    ))  # fmt: skip

    def __init__(
        self,
        provider: TracerProvider,
        ids: GivenIds,
        find: Callable[[str], InFlight | None],
        *,
        group: str,
        instance: str,
        redactor: Redactor = UNMASKED,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._tracer = provider.get_tracer("unlost")
        self._ids = ids
        self._find = find
        self._redactor = redactor
        self._group = group
        self._clock = clock
        self._always: dict[str, str | int] = {
            "messaging.system": "unlost",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.consumer.group.name": group,
            "messaging.client.id": instance,
        }
        self._open: dict[str, OpenSpan] = {}
        self._stored: dict[str, SpanContext] = {}
        self._revived: set[str] = set()
        """Events of letters: no fact names those that failed again."""

    def __call__(self, fact: Fact) -> None:
        """Follow one fact."""
        try:
            self._follow(fact)
        except Exception:  # noqa: BLE001  the library's border: no event may fail by it
            structlog.get_logger().warning("trace_failed", exc_info=True)

    def _follow(self, fact: Fact) -> None:
        match fact:
            case AttemptStarted(event_id, route, number):
                self._attempt_started(event_id, route, number)
            case HandlerRan(event_id, succeeded=succeeded):
                self._attempt_ended(event_id, succeeded=succeeded)
            case AttemptFailed(stage="handle", event_id=str() as event_id):
                self._attempt_failed(event_id, fact)
            case EventBuried(event_id):
                self._end(event_id, "buried", fact.reason, self._message(event_id, fact.message))
            case BatchDone(stage="bury"):
                self._end_revived()
            case EventsClaimed() | EventsStored() | EventsDuplicate() | LeasesLost():
                self._follow_batch(fact)
            case EffectDelivered() | EffectFailed() | EffectBuried():
                self._effect_ended(fact)
            case _:
                pass

    def _follow_batch(self, fact: EventsClaimed | EventsStored | EventsDuplicate | LeasesLost) -> None:
        for event_id in fact.event_ids:
            match fact:
                case EventsClaimed():
                    self._claimed(event_id)
                case LeasesLost():
                    self._end(event_id, "lease_lost", "the claim was lost")
                case _:
                    self._settled(event_id)

    def close(self) -> None:
        """End the spans of events that are not settled: they go back to the source, or to a peer."""
        for event_id in list(self._open):
            self._end(event_id, "unsettled")

    # -- stages ---------------------------------------------------------------------------------

    def _claimed(self, event_id: str) -> None:
        flight = self._find(event_id)
        if flight is None or event_id in self._open or len(self._open) >= MOST:
            return
        parent = parent_of(flight)
        above = get_current_span(parent).get_span_context()
        trace_id = above.trace_id if above.is_valid else trace_id_of(event_id)
        self._ids.trace_id = trace_id
        self._ids.span_id = self._span_id(event_id, flight.epoch, flight.received_at if flight.revive else None)
        source = source_of(flight)
        received = int(flight.received_at * 1e9)
        span = self._tracer.start_span(
            f"process {source}",
            context=parent,
            kind=SpanKind.CONSUMER,
            attributes={**self._always, **attributes_of(flight, source)},
            links=self._links(flight, trace_id),
            start_time=received,
        )
        self._ids.trace_id = self._ids.span_id = 0
        now = self._clock()
        self._tracer.start_span("claim", set_span_in_context(span), start_time=received).end(now)
        self._open[event_id] = OpenSpan(flight, span, now)
        if flight.revive:
            self._revived.add(event_id)

    def _links(self, flight: InFlight, trace_id: int) -> list[Link]:
        event_id = flight.event.event_id
        if flight.revive:
            return [link_to("replay", trace_id, self._span_id(event_id, FIRST))]
        if flight.takeovers and not flight.goes_on:
            return [link_to("takeover", trace_id, self._span_id(event_id, flight.epoch - 1))]
        return []

    def _attempt_started(self, event_id: str, route: str, number: int) -> None:
        """Begin an attempt, and make it the current span of the handler: this is called in the handler's context."""
        if (one := self._open.get(event_id)) is None:
            return
        self._close_attempt(one)
        attributes: dict[str, str | int] = {"unlost.route": route, "unlost.attempt": number}
        span = self._tracer.start_span(
            f"handle {route}", set_span_in_context(one.span), attributes=attributes, links=one.earlier
        )
        one.attempt, one.attempt_ended = span, 0
        one.earlier = [Link(span.get_span_context(), {"unlost.link": "retry"})]
        context.attach(set_span_in_context(span))

    def _attempt_ended(self, event_id: str, *, succeeded: bool) -> None:
        one = self._open.get(event_id)
        if one is None or one.attempt is None:
            return
        one.attempt_ended = one.stage_began = self._clock()
        if succeeded:
            self._close_attempt(one)
        else:
            one.attempt.set_status(Status(ERROR))

    def _attempt_failed(self, event_id: str, fact: AttemptFailed) -> None:
        one = self._open.get(event_id)
        if one is None or one.attempt is None:
            return
        message = self._message(event_id, fact.message)[:LONGEST]
        one.attempt.set_attribute("error.type", fact.error_type or fact.error_class)
        one.attempt.add_event("exception", {"exception.type": fact.error_type, "exception.message": message})
        one.attempt.set_status(Status(ERROR, message))
        one.attempt.set_attribute("unlost.retried", fact.retried)
        self._close_attempt(one)

    def _message(self, event_id: str, message: str) -> str:
        """A message without secrets, and without the payload fields that ``REDACT`` masks."""
        one = self._open.get(event_id)
        content = content_of(one.flight.event.frame) if one is not None and self._redactor.masks else None
        return masked(self._redactor.text(message, content))

    def _close_attempt(self, one: OpenSpan) -> None:
        if one.attempt is not None:
            one.attempt.end(one.attempt_ended or self._clock())
            one.attempt = None

    # -- ends -----------------------------------------------------------------------------------

    def _settled(self, event_id: str) -> None:
        """End an event that is a row. A copy of it may be named first, as a duplicate."""
        if (one := self._open.get(event_id)) is not None and one.flight.end is not None:
            now = self._clock()
            self._close_attempt(one)
            row = self._tracer.start_span("store", set_span_in_context(one.span), start_time=one.stage_began)
            row.set_attribute("db.system.name", "postgresql")
            row.end(now)
            self._end(event_id, "stored" if isinstance(one.flight.end, Stored) else "duplicate")

    def _end(self, event_id: str, outcome: str, why: str = "", message: str = "") -> None:
        self._revived.discard(event_id)
        if (one := self._open.pop(event_id, None)) is None:
            return
        self._close_attempt(one)
        one.span.set_attribute("unlost.outcome", outcome)
        if why:
            one.span.set_attribute("error.type", why)
            one.span.set_status(Status(ERROR, f"{why}: {message}"[:LONGEST] if message else why))
        one.span.end(self._clock())
        if outcome == "stored":
            self._stored[event_id] = one.span.get_span_context()
            if len(self._stored) > REMEMBERED:
                del self._stored[next(iter(self._stored))]

    # -- effects --------------------------------------------------------------------------------

    def _effect_ended(self, fact: EffectDelivered | EffectFailed | EffectBuried) -> None:
        """Make a span of one delivery. Its event is a row, perhaps since long ago, or by another listener."""
        event_id, now = fact.event_id, self._clock()
        stored, first = self._stored.get(event_id), self._span_id(event_id, FIRST)
        self._ids.trace_id = trace_id_of(event_id)
        span = self._tracer.start_span(
            "deliver effect",
            context=context.Context() if stored is None else set_span_in_context(NonRecordingSpan(stored)),
            kind=SpanKind.PRODUCER,
            attributes={"messaging.message.id": event_id, "unlost.effect.key": fact.key},
            links=[link_to("effect", trace_id_of(event_id), first)] if stored is None else [],
            start_time=now - int(fact.seconds * 1e9) if isinstance(fact, EffectDelivered) else now,
        )
        self._ids.trace_id = 0
        if not isinstance(fact, EffectDelivered):
            said = fact.why if isinstance(fact, EffectFailed) else fact.message
            why = masked(self._redactor.unknown(said))[:LONGEST]
            span.set_attribute("unlost.retried", isinstance(fact, EffectFailed))
            span.set_status(Status(ERROR, why))
        span.end(now)

    def _end_revived(self) -> None:
        for event_id in list(self._revived):
            if isinstance(end := self._open[event_id].flight.end, Buried):
                self._end(event_id, "buried", end.reason)

    def _span_id(self, event_id: str, epoch: int, revived_at: float | None = None) -> int:
        name = f"{self._group}\0{event_id}\0{epoch}\0{revived_at or ''}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) or 1
