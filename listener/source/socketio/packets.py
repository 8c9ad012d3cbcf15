"""Packets of Socket.IO, as python-socketio reads and writes them. Pure.

Its values stay the text that the server sent: numbers keep their digits. A binary attachment becomes base64 text where
the server has put it, and stands there once: a small packet that names a large attachment often would be a large event.
"""

import base64
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw
from socketio import packet

CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT, BINARY_ACK = range(7)
MOST_ATTACHMENTS = 1_000

_raw = msgspec.json.Decoder(Raw)
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class BadPacket(ValueError):
    """A message of the server is no packet of Socket.IO."""


class _Json:
    """The JSON functions that the library calls."""

    @staticmethod
    def loads(text: str) -> Raw:
        return _raw.decode(text)

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return _encode(value).decode()


class Packet(packet.Packet):  # type: ignore[misc]
    """A packet whose ``data`` is text. Attachments are bounded in number here, and in size by who adds them."""

    json = _Json

    @classmethod
    def reconstruct_binary(cls, data: Raw, attachments: Sequence[bytes]) -> Raw:
        """Put the attachments into the places that name them."""
        unused = dict(enumerate(attachments))
        filled = _filled(_decode(data), unused)
        if unused:
            raise BadPacket("an attachment has no place in the event")
        return Raw(_encode(filled))


def _filled(value: Any, unused: dict[int, bytes]) -> Any:
    if isinstance(value, list):
        return [_filled(one, unused) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("_placeholder") is not True:
        return {key: _filled(one, unused) for key, one in value.items()}
    number = value.get("num")
    if type(number) is not int or number not in unused:
        raise BadPacket("a place names no attachment, or one that stands elsewhere")
    return base64.b64encode(unused.pop(number)).decode()


def read_packet(text: bytes) -> Packet:
    """Read a packet; ``BadPacket`` if it is none."""
    try:
        found = Packet(encoded_packet=text.decode())
    except (ValueError, RecursionError) as error:  # msgspec's errors, and those of text that is not UTF-8, are such
        raise BadPacket(f"no packet of Socket.IO: {error}") from None
    if found.attachment_count > MOST_ATTACHMENTS:
        raise BadPacket(f"the event has more than {MOST_ATTACHMENTS:,} attachments")
    return found


def connect_packet(namespace: str, auth: Mapping[str, Any]) -> str:
    """Return the message that asks for a namespace."""
    return f"4{Packet(CONNECT, data=auth or None, namespace=namespace, binary=False).encode()}"


def ack_packet(namespace: str, number: int) -> str:
    """Return the message that acknowledges an event: without arguments, as for a callback that says nothing."""
    return f"4{Packet(ACK, data=[], namespace=namespace, id=number, binary=False).encode()}"


def namespace_of(found: Packet) -> str:
    """Return the namespace of a packet."""
    return str(found.namespace or "/")


class Arguments(msgspec.Struct):
    """An event: its name, and what was sent with it."""

    name: str
    values: list[Raw]


def arguments_of(data: Raw | None) -> Arguments:
    """Read the data of an event; ``BadPacket`` if it is none."""
    try:
        name, *values = msgspec.json.decode(data or b"", type=list[Raw])
        return Arguments(msgspec.json.decode(name, type=str), values)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadPacket(f"an event is an array that begins with its name: {error}") from None
