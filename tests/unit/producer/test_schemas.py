"""No event takes long to refuse, whatever its schema is."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from unlost.producer.publish.accept import NotAccepted, publication
from unlost.producer.publish.schemas import UNEXPLAINED, schemas_of

MANY = [1] * 400_000
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"$ref": "#/$defs/node"}},
                {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 9},
            ]
        }
    },
}
NAME = {"anyOf": [{"$ref": "#/$defs/name"}, {"type": "null"}], "$defs": {"name": {"type": "string"}}}


def nested(depth: int) -> Any:
    return json.loads("[" * depth + "1" + "]" * depth)


@pytest.mark.parametrize(
    ("schema", "payload", "why"),
    [
        ({"items": {"type": "string"}}, MANY, 'payload/0: 1 is not of type "string"'),
        ({"anyOf": [{"items": {"type": "string"}}, {"items": {"type": "object"}}]}, MANY, UNEXPLAINED),
        ({"oneOf": [{"items": {"type": "string"}}, {"items": {"type": "object"}}]}, MANY, UNEXPLAINED),
        ({"contains": {"type": "string"}}, MANY, "payload: "),
        ({"unevaluatedProperties": {"type": "string"}}, {str(n): n for n in range(60_000)}, UNEXPLAINED),
        (TREE, nested(16), UNEXPLAINED),
        (TREE, nested(500), UNEXPLAINED),
        (NAME, 5, "payload: 5 is not valid under any of the schemas"),
        ({"$id": "urn:x", "anyOf": [{"$ref": "urn:x#/$defs/a"}], "$defs": {"a": {"type": "string"}}}, 5, UNEXPLAINED),
        ({"anyOf": [{"$ref": "#/definitions/a~1b"}], "definitions": {"a/b": {}}, "not": {}}, 5, UNEXPLAINED),
    ],
)
def test_a_refusal_takes_little_time_and_has_a_reason(tmp_path: Path, schema: Any, payload: Any, why: str) -> None:
    file = tmp_path / "schemas.json"
    file.write_text(json.dumps({"*": schema}))
    check = schemas_of(file)
    body = json.dumps({"event_id": "e", "payload": payload}).encode()
    started = time.process_time()
    with pytest.raises(NotAccepted) as refused:
        publication(body, max_bytes=4 * 1024 * 1024, check=check)
    assert time.process_time() - started < 0.5
    assert str(refused.value).startswith(why)
    assert len(str(refused.value)) <= 400


OBJECTS = [{"a": number} for number in range(5_000)]
LAST = [{"a": 4_999}] * 10_000
ONE = {"a": 4_999}
WIDE = {"$ref": "#/$defs/two"}


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ({"items": {"enum": OBJECTS}}, LAST),
        ({"properties": {"x": {"contains": {"enum": ["a", *OBJECTS]}}}}, {"x": LAST}),
        ({"items": {"anyOf": [{"const": number} for number in range(2_000)]}}, [1_999] * 50_000),
        ({"items": {"$ref": "#/$defs/one"}, "$defs": {"one": {"properties": {"a": {"enum": OBJECTS}}}}}, LAST),
        (
            {
                "items": {"anyOf": [WIDE] * 80},
                "$defs": {"two": {"anyOf": [{"$ref": "#/$defs/three"}] * 80}, "three": {"oneOf": [{"const": 1}] * 9}},
            },
            [2] * 1_000,
        ),
        ({"anyOf": [{"$ref": "#"}, {"enum": OBJECTS}]}, LAST),
    ],
)
def test_a_comparison_that_would_take_seconds_is_refused_at_once(tmp_path: Path, schema: Any, payload: Any) -> None:
    check, body = checked(tmp_path, schema, payload)
    started = time.process_time()
    with pytest.raises(NotAccepted, match="would take too long"):
        publication(body, max_bytes=4 * 1024 * 1024, check=check)
    assert time.process_time() - started < 0.3


@pytest.mark.parametrize(
    ("schema", "payload"),
    [
        ({"enum": OBJECTS}, ONE),
        ({"properties": {"x": {"enum": OBJECTS}, "y": {"items": {"type": "integer"}}}}, {"x": ONE, "y": MANY}),
        ({"items": {"enum": [f"s{number}" for number in range(5_000)]}}, ["s4999"] * 100_000),
        ({"items": {"enum": OBJECTS}}, [ONE] * 200),
        ({"items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}, MANY),
        ({"$defs": {"unused": {"items": {"enum": OBJECTS}}}}, LAST),
    ],
)
def test_a_comparison_that_takes_little_time_is_made(tmp_path: Path, schema: Any, payload: Any) -> None:
    check, body = checked(tmp_path, schema, payload)
    publication(body, max_bytes=4 * 1024 * 1024, check=check)


def checked(tmp_path: Path, schema: Any, payload: Any) -> tuple[Any, bytes]:
    file = tmp_path / "schemas.json"
    file.write_text(json.dumps({"*": schema}))
    return schemas_of(file), json.dumps({"event_id": "e", "payload": payload}).encode()
