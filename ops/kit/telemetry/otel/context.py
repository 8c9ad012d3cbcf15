"""The trace in which an event was published: that of its own fields, or of its message's headers, or one of its id."""

import hashlib
from collections.abc import Mapping

import msgspec
from opentelemetry import context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator


class TraceParent(msgspec.Struct):
    """The fields of an event that carry its publisher's context, as CloudEvents' extension names them."""

    traceparent: str | None = None
    tracestate: str | None = None


_parent = msgspec.json.Decoder(TraceParent)
_propagator = TraceContextTextMapPropagator()


def trace_id_of(event_id: str) -> int:
    """Return the trace of an event whose publisher gave none: the same in every process."""
    return int.from_bytes(hashlib.sha256(f"unlost\0{event_id}".encode()).digest()[:16]) or 1


def parent_in(fields: bytes | None, headers: Mapping[str, str] | None = None) -> context.Context:
    """Return the context that these fields of an event name, a JSON object, or else these headers."""
    carrier = dict(headers or {})
    if fields and b'"traceparent"' in fields:
        try:
            found = _parent.decode(fields)
        except (msgspec.DecodeError, RecursionError):  # an odd traceparent is no reason to refuse an event
            found = TraceParent()
        carrier = {name: value for name, value in msgspec.structs.asdict(found).items() if value}
    return _propagator.extract(carrier, context.Context())
