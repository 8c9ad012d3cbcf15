"""Logs for a collector: every process writes one JSON object a line, also for failures with a traceback."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.console.conftest import until
from tests.support.system import running_system
from unlost.ops.system.system import System

HANDLER = "tests.end_to_end.console.handlers:handle"


def test_every_line_of_every_process_is_one_json_object():
    with running_system(2, console=True, HANDLER=HANDLER, HANDLE_DELAY="0.02", LOG_LEVEL="debug") as system:
        publish(system, "stored", "order")
        publish(system, "rejected", "refused")
        await_end(system, "stored", "rejected")
        known = {name: whats(url, "stored") for name, url in zip("ab", system.layout.listener_urls, strict=True)}
        system.stop()
        logs = {name: lines_of(system.layout.log(name)) for name in ("producer", "listener-a", "listener-b", "console")}
    for name, lines in logs.items():
        assert lines, name
        assert {one["instance"] for one in lines} == {name.removeprefix("listener-")}
        assert all(one["event"] and one["level"] and one["time"].endswith("Z") for one in lines), name
    listeners = logs["listener-a"] + logs["listener-b"]
    (stored,) = (one for one in listeners if one["event"] == "event_stored")
    (duplicate,) = (one for one in listeners if one["event"] == "event_duplicate" and one["event_id"] == "stored")
    assert stored["event_id"] == "stored"
    assert {stored["instance"], duplicate["instance"]} == {"a", "b"}
    assert "claimed" in known[stored["instance"]]
    assert "claimed" not in known[duplicate["instance"]]
    (failed,) = (one for one in listeners if one["event"] == "attempt_failed")
    assert (failed["event_id"], failed["error_type"]) == ("rejected", "Reject")


def publish(system: System, event_id: str, kind: str) -> None:
    event = {"event_id": event_id, "type": kind, "payload": {"card": "1"}}
    httpx.post(f"{system.layout.producer_url}/publish", json=event, trust_env=False).raise_for_status()


def await_end(system: System, *event_ids: str) -> None:
    """Wait until each listener knows how the events ended."""
    for url in system.layout.listener_urls:
        for event_id in event_ids:
            until(lambda at=(url, event_id): {"stored", "duplicate", "buried"} & {*whats(*at)})  # type: ignore[misc]


def whats(url: str, event_id: str) -> list[str]:
    """The story of an event, as a listener has it."""
    answer = httpx.get(f"{url}/api/events/{event_id}", trust_env=False)
    return [one["what"] for one in answer.json().get("recent", ())]


def lines_of(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]
