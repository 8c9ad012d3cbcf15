"""Toxics as data: validated requests, with the names and defaults of Toxiproxy's documentation.

Times are whole milliseconds. As in Toxiproxy, ``slicer``'s delay is in microseconds, and ``bandwidth``'s rate in KB a
second. Nothing here touches a connection.
"""

from typing import Any, Literal

import msgspec

Stream = Literal["upstream", "downstream"]
MILLISECOND = 1e-3


class ToxicError(Exception):
    """A request that cannot be carried out. ``status`` is the HTTP status of the response."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Attributes(msgspec.Struct, frozen=True):
    """The attributes of one kind of toxic; the default is zero."""


class Latency(Attributes, frozen=True):
    """Delays all data."""

    latency: int = 0
    jitter: int = 0


class Bandwidth(Attributes, frozen=True):
    """Limits the rate to ``rate`` KB a second; zero means no limit."""

    rate: int = 0


class SlowClose(Attributes, frozen=True):
    """Delays the end of the stream."""

    delay: int = 0


class Timeout(Attributes, frozen=True):
    """Drops all data, and closes the connection after that time; zero means never."""

    timeout: int = 0


class ResetPeer(Attributes, frozen=True):
    """Drops all data, and resets the connection after that time."""

    timeout: int = 0


class Slicer(Attributes, frozen=True):
    """Cuts data into small pieces."""

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0


class LimitData(Attributes, frozen=True):
    """Closes the connection after ``bytes`` bytes."""

    bytes: int = 0


KINDS: dict[str, type[Attributes]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "slow_close": SlowClose,
    "timeout": Timeout,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "limit_data": LimitData,
}


class Toxic(msgspec.Struct, frozen=True):
    """One toxic on one direction of a proxy; ``toxicity`` is the share of connections that it affects."""

    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: Attributes


class _ToxicRequest(msgspec.Struct, frozen=True):
    type: str = ""
    name: str = ""
    stream: str = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, Any] = {}


class _Change(msgspec.Struct, frozen=True):
    toxicity: float | None = None
    attributes: dict[str, Any] = {}


def new_toxic(body: bytes) -> Toxic:
    """Return the toxic that a request describes. Raises ``ToxicError``."""
    wanted = decoded(body, _ToxicRequest)
    stream = _stream(wanted.stream)
    kind = KINDS.get(wanted.type)
    if kind is None:
        raise ToxicError(400, f"invalid toxic type: {wanted.type!r}")
    name = wanted.name or f"{wanted.type}_{stream}"
    return Toxic(name, wanted.type, stream, wanted.toxicity, _attributes(kind, wanted.attributes))


def changed_toxic(toxic: Toxic, body: bytes) -> Toxic:
    """Return the toxic with the toxicity and attributes that the request changes."""
    change = decoded(body, _Change)
    attributes = {**msgspec.to_builtins(toxic.attributes), **change.attributes}
    toxicity = toxic.toxicity if change.toxicity is None else change.toxicity
    return Toxic(toxic.name, toxic.type, toxic.stream, toxicity, _attributes(KINDS[toxic.type], attributes))


def _stream(given: str) -> Stream:
    match given.lower() or "downstream":
        case "upstream" | "downstream" as stream:
            return stream
    raise ToxicError(400, "stream was invalid, can be either upstream or downstream")


def _attributes(kind: type[Attributes], given: dict[str, Any]) -> Attributes:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ToxicError(400, f"bad request body: {error}") from None


def decoded(body: bytes, kind: Any) -> Any:
    """Decode the body as this type. Raises ``ToxicError``."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ToxicError(400, f"bad request body: {error}") from None
