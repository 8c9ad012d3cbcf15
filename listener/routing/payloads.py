"""Payloads: how the JSON text of an event becomes a value of the type that a route declares.

msgspec reads its own structs, dataclasses, attrs classes, TypedDicts, lists, unions and plain values. Where a type has
a pydantic model in it, pydantic reads the whole. Both read the text that the source sent, so no number is rounded on
its way. A payload that does not fit is ``InvalidPayload``, with the path of the field and without its value.
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec
from msgspec import inspect as types

from unlost.listener.core.errors import InvalidPayload
from unlost.listener.core.event import any_json

Decode = Callable[[bytes], Any]
MOST_PLACES = 5
"""How many faulty fields one message names."""


Schema = dict[str, Any]


class NotReadable(Exception):
    """No payload can be read as this type. The text says why."""


def decoder_of(annotation: Any) -> Decode:
    """Return a function that reads a payload as this type; raise ``NotReadable`` if JSON has no such type."""
    if annotation is Any or annotation is object:
        return _decode_any
    try:
        described = types.type_info(annotation)
    except Exception as error:  # noqa: BLE001  a type of the user's: msgspec raises whatever its annotations raise
        return _by_pydantic(annotation, str(error))
    if _has_foreign(described, set()):
        return _by_pydantic(annotation, "JSON has nothing like it")
    return _by_msgspec(annotation)


def schema_of(annotation: Any, ref: str) -> tuple[Schema, dict[str, Schema]]:
    """Return the JSON Schema of a payload of this type, and the parts that it refers to, by name.

    ``ref`` is the form of a reference, with ``{name}`` in it. A type without a schema allows everything.
    """
    if annotation is Any or annotation is object:
        return {}, {}
    try:
        if not _has_foreign(types.type_info(annotation), set()):
            (schema,), parts = msgspec.json.schema_components([annotation], ref_template=ref)
            return schema, parts
    except Exception:  # noqa: BLE001, S110  a type of the user's, as in ``decoder_of``
        pass
    return _schema_by_pydantic(annotation, ref)


def _schema_by_pydantic(annotation: Any, ref: str) -> tuple[Schema, dict[str, Schema]]:
    from pydantic import TypeAdapter

    try:
        schema = TypeAdapter(annotation).json_schema(ref_template=ref.replace("{name}", "{model}"))
    except Exception:  # noqa: BLE001  it can be read, but not described
        return {}, {}
    return schema, schema.pop("$defs", {})


def _decode_any(payload: bytes) -> Any:
    try:
        return any_json.decode(payload)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidPayload(f"the payload cannot be decoded: {error}") from None


def _by_msgspec(annotation: Any) -> Decode:
    read = msgspec.json.Decoder(annotation).decode

    def decode(payload: bytes) -> Any:
        try:
            return read(payload)
        except msgspec.ValidationError as error:
            # From a ``__post_init__`` the error may have any text. msgspec adds the place itself.
            raise InvalidPayload(f"the payload does not fit {_name(annotation)}: {error}") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidPayload(f"the payload cannot be decoded: {error}") from None

    return decode


def _by_pydantic(annotation: Any, why: str) -> Decode:
    from pydantic import TypeAdapter, ValidationError

    try:
        read = TypeAdapter(annotation).validate_json
    except Exception as error:
        raise NotReadable(f"no payload can be read as {_name(annotation)}: {why}") from error

    def decode(payload: bytes) -> Any:
        try:
            return read(payload)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            raise InvalidPayload(f"the payload does not fit {_name(annotation)}: {_places(faults)}") from None

    return decode


def _places(faults: Sequence[Any]) -> str:
    """Name the faulty fields as msgspec does."""
    said = [f"{fault['msg']} - at `{_path(fault['loc'])}`" for fault in faults[:MOST_PLACES]]
    more = len(faults) - len(said)
    return "; ".join([*said, f"and {more} more"] if more else said)


def _path(location: Sequence[int | str]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)


def _has_foreign(described: Any, seen: set[int]) -> bool:
    """Whether some part of a type is a class that msgspec cannot read from JSON."""
    if isinstance(described, types.CustomType):
        return True
    if id(described) in seen:
        return False
    seen.add(id(described))
    return any(_has_foreign(part, seen) for part in _parts(described))


def _parts(described: Any) -> list[Any]:
    """The types within a type."""
    parts: list[Any] = []
    for name in getattr(described, "__struct_fields__", ()):
        value = getattr(described, name)
        found = value if isinstance(value, tuple) else (value,)
        parts += [getattr(one, "type", one) for one in found if isinstance(one, types.Type | types.Field)]
    return parts


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
