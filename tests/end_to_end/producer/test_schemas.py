"""Payloads that do not fit the schema of their type are refused, on every way in."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.producer.conftest import RunningProducer, running_producer
from unlost.ops.system.layout import executable

ORDER = {
    "type": "object",
    "required": ["sku"],
    "properties": {"sku": {"type": "string", "pattern": "^(a+)+$"}, "items": {"items": {"type": "integer"}}},
}
SCHEMAS = {"order": ORDER, "*": {"type": "object"}}


@pytest.fixture(scope="module", params=["on", "off"], ids=["fast", "plain"])
def producer(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RunningProducer]:
    """One for all tests of this module: each publishes ids of its own."""
    directory = tmp_path_factory.mktemp("schemas")
    schemas = directory / "schemas.json"
    schemas.write_text(json.dumps(SCHEMAS))
    with running_producer(directory, {"SCHEMAS": str(schemas), "FAST": request.param}) as one:
        yield one


@pytest.mark.parametrize(
    ("event", "why"),
    [
        ({"type": "order", "payload": {"sku": "aa"}}, None),
        ({"event_type": "order", "sku": "aa"}, None),
        ({"type": "order", "payload": {"sku": 5}}, 'payload/sku: 5 is not of type "string"'),
        ({"event_type": "order", "sku": 5}, 'payload/sku: 5 is not of type "string"'),
        ({"type": "order", "payload": {"sku": "a", "items": [1, "x"]}}, "payload/items/1"),
        ({"type": "order", "payload": {"sku": "a" * 5_000 + "!"}}, "payload/sku"),
        ({"type": "order", "payload": {}}, '"sku" is a required property'),
        ({"type": "other", "payload": {}}, None),
        ({"type": "other", "payload": 5}, 'payload: 5 is not of type "object"'),
        ({"payload": 5}, 'payload: 5 is not of type "object"'),
    ],
)
def test_a_payload_is_held_to_the_schema_of_its_type(
    producer: RunningProducer, event: dict[str, object], why: str | None
) -> None:
    own_id = hashlib.sha256(json.dumps(event).encode()).hexdigest()
    named = {"event_id": own_id, **event}
    answers = [producer.http.post(path, json=named) for path in ("/publish", "/api/v1/ddup_service/events")]
    answers.append(producer.http.post("/publish/batch", content=json.dumps({**named, "event_id": f"{own_id} batch"})))
    for answer in answers:
        shown = answer.json()
        assert shown["status"] in (("invalid",) if why else ("accepted", "duplicate"))
        assert (why or "") in shown.get("error", "")
        assert len(shown.get("error", "")) <= 400
    assert [answer.status_code for answer in answers] == [400, 400, 200] if why else [202, 409, 200]


def test_a_batch_keeps_the_lines_that_fit(producer: RunningProducer) -> None:
    lines = [
        json.dumps({"event_id": str(n), "type": "order", "payload": {"sku": n if n % 7 else "a"}}) for n in range(700)
    ]
    shown = map(json.loads, producer.http.post("/publish/batch", content="\n".join(lines)).text.splitlines())
    assert [one["status"] for one in shown] == ["invalid" if n % 7 else "accepted" for n in range(700)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "cannot be read"),
        ("[]", "must be a JSON object"),
        ('{"order": 5}', "must be a JSON object"),
        ('{"order": {"type": "nonsense"}}', "the schema of order is none"),
        ('{"order": {"$ref": "http://127.0.0.1:9/x"}}', "the schema of order is none"),
    ],
)
def test_schemas_that_are_none_end_the_start_with_one_sentence(tmp_path: Path, text: str | None, why: str) -> None:
    schemas = tmp_path / "schemas.json"
    if text is not None:
        schemas.write_text(text)
    environment = {**os.environ, "PORT": "0", "WS_PORT": "0", "JOURNAL": str(tmp_path / "j"), "SCHEMAS": str(schemas)}
    done = subprocess.run(
        [executable("unlost"), "producer"], env=environment, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 2, done.stderr
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
