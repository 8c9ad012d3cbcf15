"""Each running server against its own description: every answer matches it, and no request breaks the server."""

import importlib
import json
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.system import running_system
from unlost.ops.system.system import System

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OWN = {"x-unlost-console": "1"}
HURRIED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@schemathesis.serializer("application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: object) -> bytes:
    return value.encode() if isinstance(value, str) else json.dumps(value).encode()


# The loader imports this at its first use. Pytest rewrites what it imports, and Python 3.11.7 crashes if two threads
# parse at once (gh-106905). So it is imported here, before there are threads.
importlib.import_module("schemathesis.specs.openapi.schemas")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def system() -> Iterator[System]:
    with running_system(listeners=1, console=True) as running:
        for number in range(3):
            event = {"event_id": f"e{number}", "type": "order", "payload": {"n": number}, "more": True}
            httpx.post(f"{running.layout.producer_url}/publish", json=event, trust_env=False).raise_for_status()
        yield running


def url_of(system: System, server: str) -> str:
    layout = system.layout
    return {
        "producer": layout.producer_url,
        "listener": layout.listener_urls[0],
        "console": str(layout.console_url),
    }[server]


def test_every_server_answers_as_it_describes_itself(system: System, subtests: pytest.Subtests):
    """One test, because the system takes longer to start than all requests together."""
    for server in ("listener", "producer", "console"):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            with subtests.test(server=server, mode=mode.value):
                see_that_it_answers_as_described(url_of(system, server), server, mode)
    for server in ("listener", "console"):
        with subtests.test(server=server):
            see_that_any_id_can_be_looked_up(system, url_of(system, server))


def see_that_it_answers_as_described(url: str, server: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.query or operation.body):
            continue  # it has no parameters that could be wrong

        @HURRIED
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(base_url=url, checks=CHECKS, headers=OWN if server == "console" else None)

        ask()
        asked += 1
    assert asked


def see_that_any_id_can_be_looked_up(system: System, url: str) -> None:
    strange = "two\nlines/a slash, ü and a line's end\n"
    published = {"event_id": strange, "payload": 1}
    answer = httpx.post(f"{system.layout.producer_url}/publish", json=published, trust_env=False)
    assert answer.status_code in (202, 409), "the other server may have been tested first"
    with httpx.Client(base_url=url, trust_env=False, headers=OWN) as client:

        def known() -> bool:
            shown = client.get(f"/api/events/{quote(strange, safe='')}")
            return shown.json()["event_id"] == strange and bool(shown.json()["row"])

        system.listeners[0].wait_until(known, 20)
        assert client.get("/api/events/no%00text").status_code == 404, "PostgreSQL cannot store such text"
        assert client.get("/api/events", params={"before": 2**63}).status_code == 400
