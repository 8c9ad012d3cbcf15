"""The trace of an event and what its spans say, from the event alone."""

from typing import Literal

from opentelemetry import context
from opentelemetry.trace import Link, SpanContext, TraceFlags

from unlost.listener.core.in_flight import InFlight
from unlost.ops.kit.telemetry.otel.context import parent_in

LinkKind = Literal["retry", "takeover", "replay", "effect"]


def parent_of(flight: InFlight) -> context.Context:
    """Return the context in which an event was published: of its own fields, else of its message's headers."""
    return parent_in(flight.event.other, flight.trace)


def attributes_of(flight: InFlight, source: str) -> dict[str, str | int]:
    """Return the attributes of an event's span, by OpenTelemetry's conventions for messaging."""
    event = flight.event
    kind: dict[str, str | int] = {"cloudevents.event_type": event.type} if event.type else {}
    return kind | {
        "messaging.destination.name": source,
        "messaging.message.id": event.event_id,
        "messaging.message.body.size": event.size,
        "unlost.epoch": flight.epoch,
    }


def source_of(flight: InFlight) -> str:
    """Return the name of the source that an event came from."""
    if flight.position is None:
        return "letters"
    return flight.position.of.source or "stream"


def link_to(kind: LinkKind, trace_id: int, span_id: int) -> Link:
    """Return a link to the span with these ids."""
    return Link(SpanContext(trace_id, span_id, True, TraceFlags(TraceFlags.SAMPLED)), {"unlost.link": kind})
