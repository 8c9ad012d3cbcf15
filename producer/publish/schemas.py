"""Whether payloads are what their publishers promised: a JSON Schema for each type of event, from one file.

The file is a JSON object: type of event to JSON Schema of its payload. ``*`` is for all types without a schema of their
own, and for events without a type. Without it, those are accepted as they are. Schemas refer to nothing outside of the
file, and their patterns are matched in linear time. Whether a payload fits takes milliseconds for each megabyte, except
where each of its values is compared with many alternatives. These comparisons are limited to about 0.3 s.

An explanation of why a payload does not fit can take far longer than the check, and is then left out. Where a schema
has alternatives, each is explained for each part of the payload, and again at each depth if the schema refers to
itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from unlost.listener.core.errors import InvalidEvent, Misconfigured
from unlost.listener.core.event import Event, any_json, decode, how_often
from unlost.producer.publish.accept import Check, NotAccepted

try:
    import jsonschema_rs
except ImportError:
    _is_installed = False
else:
    _is_installed = True

OTHERS = "*"
LONGEST_REASON = 400
UNEXPLAINED = "payload: it does not fit the schema of its type; where is not searched for in one like this"
TOO_MUCH = "payload: to compare {:,} values with {:,} alternatives of their schema would take too long"
LONGEST_FILE = 16 * 1024 * 1024
ALTERNATIVES = ("anyOf", "oneOf", "unevaluatedItems", "unevaluatedProperties")
LONGEST_EXPLAINED = 4 * 1024
"""Bytes of a payload for which all alternatives are explained: two thousand numbers take 10 ms for each alternative."""


MOST_COMPARED = 2_000_000
"""Values of a payload times alternatives for each: 0.14 microseconds each."""
ONE_OF_MANY = ("allOf", "anyOf", "oneOf")
FOR_EACH = (
    "items", "additionalItems", "contains", "additionalProperties", "patternProperties", "propertyNames",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
"""Keywords whose schemas are compared with many values of one payload."""
BY_NAME = ("properties", "patternProperties", "dependentSchemas")
ELSEWHERE = ("$defs", "definitions", "const", "default", "examples")


class _Schema(NamedTuple):
    validator: "jsonschema_rs.Validator"
    explained: float
    """Longer payloads are refused without the place at fault."""
    alternatives: int
    """With how many alternatives each value of a payload may be compared."""


def schemas_of(path: Path) -> Check:
    """Read the file, and return what checks an event. Raises ``Misconfigured``."""
    where = f"--schemas (SCHEMAS): {path}"
    if not _is_installed:
        raise Misconfigured(f'{where}: schemas need the package jsonschema-rs: pip install "unlost[schema]"')
    schemas: dict[str, _Schema] = {}
    for kind, schema in _read(path, where).items():
        try:
            validator = jsonschema_rs.validator_for(schema, offline=True, pattern_options=jsonschema_rs.RegexOptions())
            alternatives = _Alternatives(schema).of(schema, repeats=_refers_to_itself(schema))
            schemas[kind] = _Schema(validator, _explained(schema), alternatives)
        except (ValueError, RecursionError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
            raise Misconfigured(f"{where}: the schema of {kind} is none: {_first_line(error)}") from error
    return _checking(schemas)


def _read(path: Path, where: str) -> dict[str, dict[str, Any] | bool]:
    try:
        if path.stat().st_size > LONGEST_FILE:
            raise Misconfigured(f"{where} has more than {LONGEST_FILE:,} bytes")
        read = any_json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise Misconfigured(f"{where} cannot be read: {error}") from error
    if not isinstance(read, dict) or not all(isinstance(schema, dict | bool) for schema in read.values()):
        raise Misconfigured(f"{where} must be a JSON object: type of event to JSON Schema of its payload")
    return read


def _explained(schema: Any) -> float:
    """The bytes of the longest payload that is explained."""
    if not any(name in ALTERNATIVES for name, _ in _members(schema)):
        return float("inf")
    return 0 if _refers_to_itself(schema) else LONGEST_EXPLAINED


def _refers_to_itself(schema: Any) -> bool:
    """Whether following references can lead back. A reference that is no plain path in the schema counts as one."""
    inside: dict[str, list[str]] = {}
    left = _references(schema)
    while left:
        reference = left.pop()
        if reference in inside:
            continue
        found = _at(schema, reference)
        if found is None:
            return True
        inside[reference] = _references(found)
        left += inside[reference]
    try:
        TopologicalSorter(inside).prepare()
    except CycleError:
        return True
    return False


def _references(schema: Any) -> list[str]:
    return [str(value) for name, value in _members(schema) if name in ("$ref", "$dynamicRef", "$recursiveRef")]


class _Alternatives:
    """Counts the alternatives of one schema that each value of a payload may be compared with."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._known: dict[tuple[str, bool], int] = {}

    def of(self, schema: Any, *, repeats: bool) -> int:
        """Count those of this part. ``repeats``: it is compared with many values of one payload."""
        if not isinstance(schema, dict):
            return 0
        return sum(self._of_keyword(name, value, repeats=repeats) for name, value in schema.items())

    def _of_keyword(self, name: str, value: Any, *, repeats: bool) -> int:
        if name in ELSEWHERE:
            return 0
        if name == "enum":
            return len(value) if repeats and isinstance(value, list) and not _is_looked_up(value) else 0
        if name in ("$ref", "$dynamicRef", "$recursiveRef"):
            return self._of_reference(str(value), repeats=repeats)
        repeats = repeats or name in FOR_EACH
        if isinstance(value, list):
            own = len(value) if repeats and name in ONE_OF_MANY else 0
            return own + sum(self.of(one, repeats=repeats) for one in value)
        if name in BY_NAME and isinstance(value, dict):
            return sum(self.of(one, repeats=repeats) for one in value.values())
        return self.of(value, repeats=repeats)

    def _of_reference(self, reference: str, *, repeats: bool) -> int:
        key = reference, repeats
        if key not in self._known:
            self._known[key] = 0  # one that leads back here adds nothing
            self._known[key] = self.of(_at(self._root, reference), repeats=repeats)
        return self._known[key]


def _is_looked_up(values: Sequence[Any]) -> bool:
    """Whether finding a value among these takes one look, however many they are."""
    return all(isinstance(one, str) for one in values) or all(type(one) is int for one in values)


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """All members of all objects in this value."""
    if isinstance(value, dict):
        yield from value.items()
        for inner in value.values():
            yield from _members(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _members(inner)


def _at(schema: Any, reference: str) -> Any:
    """Return the schema at a path like ``#/$defs/line``; None if there is no such path."""
    root, *names = reference.split("/")
    for name in names if root == "#" else [""]:
        schema = schema.get(name) if isinstance(schema, dict) else None
    return schema


def _checking(schemas: Mapping[str, _Schema]) -> Check:
    others = schemas.get(OTHERS)

    def check(event: Event) -> None:
        schema = schemas.get(event.type or OTHERS, others)
        if schema is None:
            return
        values = 1 + how_often(b",", event.payload)
        if values * schema.alternatives > MOST_COMPARED:
            raise NotAccepted("invalid", TOO_MUCH.format(values, schema.alternatives), event.event_id)
        try:
            payload = decode(event.payload)
            if schema.validator.is_valid(payload):
                return
            why = _why(schema.validator, payload) if len(event.payload) <= schema.explained else UNEXPLAINED
        except (InvalidEvent, ValueError) as unreadable:
            raise NotAccepted("invalid", f"the payload cannot be checked: {unreadable}", event.event_id) from None
        raise NotAccepted("invalid", why[:LONGEST_REASON], event.event_id)

    return check


def _why(validator: "jsonschema_rs.Validator", payload: Any) -> str:
    try:
        validator.validate(payload)
    except jsonschema_rs.ValidationError as error:
        return f"{'/'.join(['payload', *map(str, error.instance_path)])}: {error.message}"
    return UNEXPLAINED


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
