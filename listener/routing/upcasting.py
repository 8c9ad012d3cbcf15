"""Upcasters: functions that bring a payload of an older version to the newest, one version at a time.

They run before a payload's type is checked and before conditions are asked, on every attempt, for events of the source
and of letters alike. The row keeps what the publisher sent.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from unlost.listener.core.errors import InvalidPayload, Permanent, Reject, Transient
from unlost.listener.core.event import Event, any_json, envelope
from unlost.listener.pipeline.handlers import HandlerFailed
from unlost.listener.routing.arguments import is_asynchronous, name_of
from unlost.listener.routing.declared import Function, Upcast

Chain = dict[int, Function]
"""The upcasters of one type, by the version that each takes."""


class Upcasters:
    """The upcasters of an application, which ``mistakes_of`` has checked."""

    def __init__(self, declared: Iterable[Upcast], field: str) -> None:
        """``field``: where the version stands, ``version`` beside ``type`` or a path such as ``payload.version``."""
        self._chains: dict[str, Chain] = defaultdict(dict)
        for one in declared:
            self._chains[one.event_type][one.from_version] = one.function
        self._field = field
        self._path = field.split(".")

    def newest(self, event: Event) -> Event:
        """Return the event with its payload in the newest version; the same event if it has that already.

        Raises what an attempt raises.
        """
        chain = self._chains.get(event.type) if event.type is not None else None
        if chain is None:
            return event
        version = self._version(event)
        if version > max(chain):
            return event
        if version < min(chain):
            raise InvalidPayload(f"{event.type} has version {version}, and upcasters begin with version {min(chain)}")
        payload = _decoded(event.payload)
        for number in range(version, max(chain) + 1):
            payload = _called(chain[number], payload)
        return msgspec.structs.replace(event, payload=_encoded(chain[max(chain)], payload))

    def _version(self, event: Event) -> int:
        """The version of an event; 1 if it names none."""
        value: Any = _decoded(event.payload)
        path = self._path
        if path[0] == "payload":
            path = path[1:]
        else:
            value = {name: _decoded(raw) for name, raw in envelope.decode(event.frame).items() if name == path[0]}
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return 1
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            value = int(value)
        if type(value) is not int or value < 1:
            raise InvalidPayload(f"the version of an event, in {self._field}, is a whole number from 1 on")
        return value


def mistakes_of(declared: Sequence[Upcast], field: str) -> list[str]:
    """Return what is wrong with these declarations, one sentence each."""
    said = [f"{name_of(one.function)}(): {why}" for one in declared for why in _wrong(one)]
    if not field or not all(field.split(".")):
        said.append(f"version_field={field!r} is no path: write version, or payload.version")
    by_type: dict[str, dict[int, Upcast]] = defaultdict(dict)
    for one in declared:
        other = by_type[one.event_type].setdefault(one.from_version, one)
        if other is not one:
            names = f"{name_of(other.function)}() and {name_of(one.function)}()"
            said.append(f"{names} both upcast {one.event_type} from version {one.from_version}")
    return said + [why for event_type, chain in by_type.items() for why in _gaps(event_type, chain)]


def _wrong(one: Upcast) -> list[str]:
    said = []
    if is_asynchronous(one.function):
        said.append("an upcaster is a plain function, not an `async def`")
    if "*" in one.event_type or not one.event_type:
        said.append(f"an upcaster is for one type, and {one.event_type!r} is a pattern")
    if one.from_version < 1:
        said.append(f"from_version={one.from_version}, and versions begin with 1")
    return said


def _gaps(event_type: str, chain: Mapping[int, Upcast]) -> list[str]:
    first, last = min(chain), max(chain)
    missing = next((one for one in range(first, last) if one not in chain), None)
    return [f"{event_type} has upcasters from version {first} and {last}, and none from {missing}"] if missing else []


def _decoded(value: bytes | msgspec.Raw) -> Any:
    try:
        return any_json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidPayload(f"the payload cannot be decoded: {error}") from None


def _called(function: Function, payload: Any) -> Any:
    try:
        found = function(payload)
    except (Reject, Permanent, Transient):
        raise
    except BaseException as error:  # as in an attempt, no exception ends the process
        raise HandlerFailed(error) from error
    if found is None and payload is not None:
        raise HandlerFailed(TypeError(f"{name_of(function)}() returned None, not a payload"))
    return found


def _encoded(function: Function, payload: Any) -> bytes:
    try:
        return msgspec.json.encode(payload)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise HandlerFailed(TypeError(f"{name_of(function)}() returned what is no JSON: {error}")) from error
