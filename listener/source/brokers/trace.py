"""The trace in which a message was published, if its headers name one. Pure."""

from collections.abc import Iterable, Mapping, Sequence

NAMES = frozenset(("traceparent", "tracestate"))
LONGEST = 512
"""The standard's limit for tracestate. A longer header is ignored."""

Headers = Iterable[tuple[object, object]]


def traces_of(each: Iterable[Headers | None]) -> Sequence[Mapping[str, str] | None]:
    """Return what the headers of each message say; nothing if none has such a header."""
    found = [_trace_of(headers) if headers else None for headers in each]
    return found if any(found) else ()


def _trace_of(headers: Headers) -> Mapping[str, str] | None:
    named = [(str(name).lower(), value) for name, value in headers]
    return {name: text for name, value in named if name in NAMES and (text := _text(value))} or None


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        value = bytes(value[: LONGEST + 1]).decode(errors="replace")
    return value if isinstance(value, str) and len(value) <= LONGEST else ""
