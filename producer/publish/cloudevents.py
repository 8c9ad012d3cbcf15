"""CloudEvents 1.0 over HTTP, in structured, batched and binary mode, as events of ours. Pure.

A CloudEvent is known by its source and its id together, so ``event_id`` is ``source#id``, as the feed ``cloudevents``
has it. ``data`` is the payload. All other attributes stay fields of the event.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import any_json, check_content, envelope, on_one_line
from unlost.producer.publish.array_items import ArrayItems

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
REQUIRED = ("specversion", "id", "source", "type")
VERSION = "1.0"
TAKEN = frozenset(("event_id", "payload", "cursor"))
"""Fields of our events that no attribute may have the name of."""

Fields = Mapping[str, msgspec.Raw]
_encode = msgspec.json.encode


def event_of(content_type: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the event in a request, on one line. Anything else becomes a line that the producer refuses."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == STRUCTURED:
        return _line(_structured, body)
    return _line(_binary, kind, headers, body)


class BatchLines:
    """The events of a batch, which comes in pieces of any size, one line each."""

    def __init__(self, *, max_item_bytes: int) -> None:
        self._items = ArrayItems(max_bytes=max_item_bytes)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield a line for each event that this piece completes.

        Raises ``InvalidEvent`` for what is no batch, and ``NotAccepted`` for an event that is too large.
        """
        for item in self._items.feed(piece):
            yield _line(_structured, item)

    def end(self) -> None:
        """Raise ``InvalidEvent`` unless the batch was closed."""
        self._items.end()


def is_batch(content_type: str) -> bool:
    """Whether the request has an answer for each of several events."""
    return content_type.partition(";")[0].strip().lower() == BATCH


def _structured(body: bytes) -> bytes:
    try:
        body.decode()
        fields = dict(envelope.decode(body))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"not a CloudEvent in JSON: {error}") from None
    check_content(body)
    payload: bytes = bytes(fields.pop("data", b"null"))
    if "data_base64" in fields:
        if payload != b"null":
            raise InvalidEvent("a CloudEvent has data or data_base64, not both")
        payload, fields["data_base64"] = bytes(fields["data_base64"]), msgspec.Raw(b"true")
    return _event(fields, payload)


def _binary(kind: str, headers: Mapping[str, str], body: bytes) -> bytes:
    fields = {
        name[3:].lower(): msgspec.Raw(_encode(unquote(value, errors="strict")))
        for name, value in headers.items()
        if name.lower().startswith("ce-")
    }
    if kind:
        fields["datacontenttype"] = msgspec.Raw(_encode(kind))
    if not body:
        return _event(fields, b"null")
    if kind in ("", "application/json") or kind.endswith("+json"):
        return _event(fields, _checked(body))
    if kind.startswith("text/"):
        return _event(fields, _encode(body.decode()))
    fields["data_base64"] = msgspec.Raw(b"true")
    return _event(fields, _encode(base64.b64encode(body).decode()))


def _checked(body: bytes) -> bytes:
    """Return the data, which must be one JSON value."""
    try:
        body.decode()
        any_json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidEvent(f"the data is not JSON: {error}") from None
    return body


def _event(fields: Fields, payload: bytes) -> bytes:
    texts: dict[str, str] = {}
    for name in REQUIRED:
        try:
            texts[name] = msgspec.json.decode(fields.get(name, b"null"), type=str)
        except msgspec.DecodeError:
            raise InvalidEvent(f"a CloudEvent needs the attribute {name}, a text") from None
        if not texts[name]:
            raise InvalidEvent(f"the attribute {name} of a CloudEvent must not be empty")
    if texts["specversion"] != VERSION:
        raise InvalidEvent(f"specversion must be {VERSION}")
    if clash := sorted(TAKEN & fields.keys()):
        raise InvalidEvent(f"the attribute {clash[0]} cannot be kept: events have a field of that name")
    kept = {"event_id": f"{texts['source']}#{texts['id']}", **fields, "payload": msgspec.Raw(payload)}
    return on_one_line(_encode(kept))


def _line(make: Callable[..., bytes], *arguments: Any) -> bytes:
    try:
        return make(*arguments)
    except (InvalidEvent, UnicodeError) as error:
        return refused(str(error))


def refused(why: str) -> bytes:
    """A line that the producer refuses for this reason."""
    return _encode({"event_id": None, "refused": why[:400]})
