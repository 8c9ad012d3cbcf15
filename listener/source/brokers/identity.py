"""Gives an event the id that its broker has for it, if it has none of its own. Pure.

An event with an ``event_id`` stays as it is, byte for byte. A JSON object without one gets it as its first field. Any
other JSON value becomes the payload. Text that is no JSON stays as it is: it is refused later, with a reason.
"""

import msgspec

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import check_content, envelope

FIELD = b'"event_id"'


_raw = msgspec.json.Decoder(msgspec.Raw)
_UNREADABLE = (InvalidEvent, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def with_id(body: bytes, event_id: str) -> bytes:
    """Return the event's text, with this id unless it has one."""
    if body.startswith(b'{"event_id":'):
        return body
    try:
        value = bytes(_raw.decode(body))
        if not value.startswith(b"{"):
            return b'{"event_id":%b,"payload":%b}' % (msgspec.json.encode(event_id), value)
        if _has_id(value):
            return body
    except _UNREADABLE:
        return body
    rest = value[1:].lstrip()
    separator = b"" if rest.startswith(b"}") else b","
    return b'{"event_id":%b%b%b' % (msgspec.json.encode(event_id), separator, rest)


def _has_id(value: bytes) -> bool:
    if FIELD not in value and b"\\u" not in value:  # an escape may hide the name
        return False
    check_content(value)
    return "event_id" in envelope.decode(value)
