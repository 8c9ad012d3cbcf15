"""Applies an edit to an event: a JSON Patch, or a Python function. Pure, except for the user's function.

A patch keeps every number as it was written. A function gets what a handler would get, so numbers are Python's.
"""

import hashlib
import inspect
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from unlost.dlq.record.json_patch import BadPatch, equal, patched, read_patch
from unlost.listener.core.errors import Misconfigured, UnlostError
from unlost.listener.core.event import ENVELOPE

MOST_PATCH_BYTES = 8 * 1024 * 1024
_exact = msgspec.json.Decoder(float_hook=Decimal)
_plain = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder(decimal_format="number")


class CannotEdit(UnlostError):
    """This letter cannot be edited so. The text says why."""


class EventChange(Protocol):
    """Makes a new event from an event. ``how`` names it, and is equal if it is used again."""

    @property
    def how(self) -> str:
        """The name of the patch or function."""

    def __call__(self, event: bytes | None) -> bytes:
        """Return the new event; raise ``CannotEdit``. ``event``: None if there is no whole text of it."""


class PatchChange:
    """A JSON Patch of the whole event."""

    def __init__(self, text: bytes) -> None:
        """Read it; raise ``BadPatch``."""
        if len(text) > MOST_PATCH_BYTES:
            raise BadPatch(f"the patch has {len(text):,} bytes, and {MOST_PATCH_BYTES:,} are allowed")
        self._patch = read_patch(text)
        meant = [
            msgspec.structs.asdict(one) | {"value": None if one.op in NO_VALUE else one.value} for one in self._patch
        ]
        self.how = f"patch {hashlib.sha256(_encoder.encode(meant)).hexdigest()[:12]}"

    def __call__(self, event: bytes | None) -> bytes:
        """See ``EventChange``. If the event is no JSON, a patch can only replace it as a whole."""
        try:
            document = None if event is None else _exact.decode(event)
        except (msgspec.DecodeError, RecursionError):
            document = None
        try:
            return _encoded(patched(document, self._patch))
        except (BadPatch, RecursionError) as error:
            raise CannotEdit(str(error)) from None


NO_VALUE = ("remove", "move", "copy")


class FunctionChange:
    """A function of the user's. Its only parameter is the event, if it is named ``event``; else the payload.

    It returns the new value. With None, the letter stays as it is.
    """

    def __init__(self, name: str, function: Any) -> None:
        """Check it; raise ``Misconfigured``."""
        self.how = name
        self._function: Callable[[Any], Any] = function
        if not callable(function):
            raise Misconfigured(f"--with {name}: there is no such function")
        if inspect.iscoroutinefunction(function):
            raise Misconfigured(f"--with {name}: the function must be a `def`, not an `async def`")
        try:
            parameters = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
        except (TypeError, ValueError) as error:
            raise Misconfigured(f"--with {name}: its parameters cannot be read: {error}") from None
        if len(parameters) != 1:
            raise Misconfigured(
                f"--with {name}: the function takes (payload) or (event), not {len(parameters)} parameters"
            )
        self._whole = parameters[0].name == "event"

    def __call__(self, event: bytes | None) -> bytes:
        """See ``EventChange``."""
        try:
            document = None if event is None else _plain.decode(event)
        except (msgspec.DecodeError, RecursionError):
            document = None
        if event is None or not isinstance(document, dict):
            raise CannotEdit("it is no JSON object, so a function cannot read it; a patch can replace the whole")
        if self._whole:
            found = self._called(document)
            return event if found is None else _encoded(found)
        whole = "payload" in document
        found = self._called(document["payload"] if whole else _without_envelope(document))
        if found is None:
            return event
        if not whole and not isinstance(found, dict):
            raise CannotEdit("the event has no payload of its own, so the function must return an object")
        return _encoded(document | {"payload": found} if whole else _envelope(document) | found)

    def _called(self, value: Any) -> Any:
        try:
            return self._function(value)
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise CannotEdit(f"{self.how} raised {type(error).__name__}: {error}") from error


def _envelope(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name in ENVELOPE}


def _without_envelope(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ENVELOPE}


def _encoded(document: Any) -> bytes:
    try:
        return _encoder.encode(document)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise CannotEdit(f"what it returned cannot be written as JSON: {error}") from None


def same_json(one: bytes, other: bytes) -> bool:
    """Whether two texts have the same JSON value."""
    if one == other:
        return True
    try:
        return equal(_exact.decode(one), _exact.decode(other))
    except (msgspec.DecodeError, RecursionError):
        return False


def with_id(event: bytes, event_id: str) -> bytes:
    """The event with this id, if it has none: it would get another one from its new content."""
    document = _exact.decode(event)
    if not isinstance(document, dict) or "event_id" in document:
        return event
    return _encoded({"event_id": event_id} | document)
