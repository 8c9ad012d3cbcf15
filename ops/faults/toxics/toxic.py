"""Toxics as data: what may be asked for, checked, with the names and defaults that Toxiproxy documents.

Times are whole milliseconds, but ``slicer``'s delay is in microseconds and ``bandwidth``'s rate in KB a second, as
there. Nothing here touches a connection.
"""

from typing import Any, Literal

import msgspec

Stream = Literal["upstream", "downstream"]
MILLISECOND = 1e-3


class ToxicTrouble(Exception):
    """A request that cannot be done. ``status`` is the HTTP status that says so."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Attributes(msgspec.Struct, frozen=True):
    """What a kind of toxic can be told; what is not told is zero."""


class Latency(Attributes, frozen=True):
    """Everything comes later."""

    latency: int = 0
    jitter: int = 0


class Bandwidth(Attributes, frozen=True):
    """So many KB a second, at most; zero sets no limit."""

    rate: int = 0


class SlowClose(Attributes, frozen=True):
    """The end comes later."""

    delay: int = 0


class Timeout(Attributes, frozen=True):
    """Nothing passes, and after that time the connection is closed; zero: never."""

    timeout: int = 0


class ResetPeer(Attributes, frozen=True):
    """Nothing passes, and after that time the connection is reset."""

    timeout: int = 0


class Slicer(Attributes, frozen=True):
    """Data comes in small pieces."""

    average_size: int = 0
    size_variation: int = 0
    delay: int = 0


class LimitData(Attributes, frozen=True):
    """So many bytes pass, and the connection is closed."""

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
    """One toxic on one direction of a proxy; ``toxicity`` is the share of connections that it takes hold of."""

    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: Attributes


class _Asked(msgspec.Struct, frozen=True):
    type: str = ""
    name: str = ""
    stream: str = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, Any] = {}


class _Change(msgspec.Struct, frozen=True):
    toxicity: float | None = None
    attributes: dict[str, Any] = {}


def new_toxic(body: bytes) -> Toxic:
    """The toxic that a request describes, or ``ToxicTrouble``."""
    asked = decoded(body, _Asked)
    stream = _stream(asked.stream)
    kind = KINDS.get(asked.type)
    if kind is None:
        raise ToxicTrouble(400, f"invalid toxic type: {asked.type!r}")
    name = asked.name or f"{asked.type}_{stream}"
    return Toxic(name, asked.type, stream, asked.toxicity, _attributes(kind, asked.attributes))


def changed_toxic(toxic: Toxic, body: bytes) -> Toxic:
    """The same toxic with what the request changes of toxicity and attributes."""
    change = decoded(body, _Change)
    attributes = {**msgspec.to_builtins(toxic.attributes), **change.attributes}
    toxicity = toxic.toxicity if change.toxicity is None else change.toxicity
    return Toxic(toxic.name, toxic.type, toxic.stream, toxicity, _attributes(KINDS[toxic.type], attributes))


def _stream(told: str) -> Stream:
    match told.lower() or "downstream":
        case "upstream" | "downstream" as stream:
            return stream
    raise ToxicTrouble(400, "stream was invalid, can be either upstream or downstream")


def _attributes(kind: type[Attributes], told: dict[str, Any]) -> Attributes:
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise ToxicTrouble(400, f"bad request body: {error}") from None


def decoded(body: bytes, kind: Any) -> Any:
    """The body as this kind of thing, or ``ToxicTrouble``."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise ToxicTrouble(400, f"bad request body: {error}") from None
