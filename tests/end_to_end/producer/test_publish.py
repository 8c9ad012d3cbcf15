"""Publishing over HTTP to a real producer."""

import json
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.producer.conftest import RunningProducer, running_producer
from unlost.ops.system.layout import executable

EVENT = {"event_id": "a", "payload": {"total": 1}}


@pytest.fixture(scope="module", autouse=True, params=["on", "off"], ids=["fast", "plain"])
def fast(request: pytest.FixtureRequest) -> Iterator[str]:
    """Producers start with this setting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAST", request.param)
        yield request.param


@pytest.fixture(scope="module")
def shared_producer(fast: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProducer]:
    with running_producer(tmp_path_factory.mktemp(fast), {}) as one:
        yield one


def listed(producer: RunningProducer, **asked: Any) -> list[dict]:
    return [json.loads(line) for line in producer.http.get("/api/journal", params=asked).text.splitlines()]


def test_reports_each_outcome(producer: RunningProducer) -> None:
    first = producer.http.post("/publish", json=EVENT)
    again = producer.http.post("/publish", content=b'{ "payload": {"total": 1.0},\n "event_id": "a"}')
    other = producer.http.post("/publish", json={**EVENT, "payload": 2})
    redelivered = producer.http.post("/publish?redeliver=true", json=EVENT)
    assert (first.status_code, first.json()["status"]) == (202, "accepted")
    assert (again.status_code, again.json()["status"]) == (409, "duplicate")
    assert (other.status_code, other.json()["status"]) == (409, "conflict")
    assert (redelivered.status_code, redelivered.json()["status"]) == (202, "redelivered")
    assert [one["cursor"] for one in listed(producer)] == [first.json()["cursor"], redelivered.json()["cursor"]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"nonsense", 400),
        (b'{"event_id":"\\ud800"}', 400),
        (b'{"payload":1e999999}', 400),
        (b"[" * 200_000, 400),
        (b'{"payload":' + b"[" * 200_000 + b"]" * 200_000 + b"}", 400),
        (b'{"event_id":"big","payload":"' + b"x" * 1_100_000 + b'"}', 413),
    ],
)
def test_survives_bad_bodies_on_each_way_in(shared_producer: RunningProducer, body: bytes, status: int) -> None:
    for path in ("/publish", "/api/v1/ddup_service/events"):
        answer = shared_producer.http.post(path, content=body)
        assert answer.status_code == status, path
        assert answer.json()["error"]
    shown = shared_producer.http.post("/publish/batch", content=body + b'\n{"event_id":"good after %d"}' % len(body))
    assert json.loads(shown.text.splitlines()[-1])["status"] == "accepted"
    assert shared_producer.http.get("/health/ready").status_code == 200


def test_an_extreme_number_never_kills_the_commit(producer: RunningProducer) -> None:
    for number in ("1e999999", "1e99999999999999999999", "1" * 5_000):
        producer.http.post("/publish", content=f'{{"event_id":"n","payload":{number}}}')
    assert producer.http.post("/publish", json=EVENT).status_code == 202


def test_answers_a_batch_line_by_line(producer: RunningProducer) -> None:
    lines = ['{"event_id":"a"}', "", "nonsense", '{"event_id":"a"}', '{"event_id":"b","payload":1}\r']
    shown = [
        json.loads(line) for line in producer.http.post("/publish/batch", content="\n".join(lines)).text.splitlines()
    ]
    assert [(one["line"], one["status"]) for one in shown] == [
        (1, "accepted"),
        (3, "invalid"),
        (4, "duplicate"),
        (5, "accepted"),
    ]
    assert [one["event_id"] for one in listed(producer)] == ["a", "b"]


def test_takes_a_large_batch_and_pages_through_it(producer: RunningProducer) -> None:
    body = "\n".join(json.dumps({"event_id": f"e{number}", "payload": number}) for number in range(5_000))
    shown = producer.http.post("/publish/batch", content=body).text.splitlines()
    assert [(one["line"], one["status"]) for one in map(json.loads, shown)] == [
        (n + 1, "accepted") for n in range(5_000)
    ]
    first = listed(producer, limit=3_000)
    rest = listed(producer, limit=3_000, after=first[-1]["cursor"])
    assert [one["event_id"] for one in first + rest] == [f"e{number}" for number in range(5_000)]
    assert producer.http.get("/api/journal?after=nobody.7").status_code == 404


def test_answers_what_it_placed_of_a_body_that_is_refused_in_its_middle(producer: RunningProducer) -> None:
    lines = [json.dumps({"event_id": f"e{number}"}) for number in range(3_000)]
    answer = producer.http.post("/publish/batch", content="\n".join([*lines, "x" * 3_000_000]))
    *shown, last = map(json.loads, answer.text.splitlines())
    assert (answer.status_code, last["status"]) == (413, "too_large")
    assert shown, "lines are stored as they arrive"
    assert [one["event_id"] for one in shown] == [one["event_id"] for one in listed(producer, limit=5_000)]


def test_a_process_that_reads_large_batches_changes_no_answer_and_ends_with_the_producer(
    producer: RunningProducer, fast: str
) -> None:
    def publish(run: int) -> list[tuple[int, str]]:
        lines = [json.dumps({"event_id": f"{run}-{number}", "payload": number}) for number in range(2_000)]
        lines[1_700] = '{"event_id":"twice","payload":{"a":1,"a":2}}'
        shown = producer.http.post("/publish/batch", content="\n".join(lines)).text.splitlines()
        return [(one["line"], one["status"]) for one in map(json.loads, shown)]

    for run in range(10):
        assert publish(run) == [(line, "invalid" if line == 1_701 else "accepted") for line in range(1, 2_001)]
    readers = psutil.Process(producer.process.pid).children()
    assert len(readers) == (fast == "on" and len(os.sched_getaffinity(0)) > 1)
    producer.end(kill=True)
    _, left = psutil.wait_procs(readers, 15)
    assert not left


def test_wraps_objects_for_the_deduplicating_service(producer: RunningProducer) -> None:
    assert producer.http.get("/api/v1/ddup_service/test").json()["status"] == "ok"
    assert producer.http.post("/api/v1/ddup_service/events", json={"x": 1, "y": 2}).status_code == 202
    assert producer.http.post("/api/v1/ddup_service/events", content=b'{"y":2,"x":1}').status_code == 409
    assert producer.http.post("/api/v1/ddup_service/events", json=[1]).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        '{"x": 1, "y": 2}', '{"payload": {"x": 1}, "type": "t"}', '{"event_type": "order.created", "x": [1, 2]}',
        '{"event_id": "a", "x": 1}',
    ],
)  # fmt: skip
def test_the_same_body_is_a_duplicate_on_every_way_in(shared_producer: RunningProducer, body: str) -> None:
    ways = ["/publish", "/api/v1/ddup_service/events"]
    first, second = (shared_producer.http.post(way, content=body).json() for way in ways)
    assert (first["status"], second["status"]) == ("accepted", "duplicate")
    assert first["event_id"] == second["event_id"]
    batch = shared_producer.http.post("/publish/batch", content=body).json()
    assert batch["status"] == "duplicate"


def test_an_event_that_an_earlier_version_wrapped_is_a_duplicate(producer: RunningProducer) -> None:
    own = producer.http.post("/publish", content=b'{"x": 1, "y": {"z": 2}}').json()["event_id"]
    wrapped = f'{{"event_id":"{own}","payload":{{"x": 1, "y": {{"z": 2}}}}}}'
    assert producer.http.post("/publish", content=wrapped).json()["status"] == "duplicate"


def test_refuses_the_pages_of_other_sites(producer: RunningProducer) -> None:
    port = producer.stream.rsplit(":")[-1].strip("/")
    assert producer.http.post("/publish", json=EVENT, headers={"Origin": "https://evil.example"}).status_code == 403
    assert producer.http.post("/publish", json=EVENT, headers={"Origin": "null"}).status_code == 403
    own = producer.http.post("/publish", json=EVENT, headers={"Origin": f"http://127.0.0.1:{port}"})
    assert own.status_code == 202
    assert own.headers["access-control-allow-origin"] == f"http://127.0.0.1:{port}"


def test_an_event_that_was_answered_202_survives_a_kill(producer: RunningProducer) -> None:
    accepted = [producer.http.post("/publish", json={"event_id": f"e{n}"}).json()["cursor"] for n in range(20)]
    producer.end(kill=True)
    producer.start()
    assert [one["cursor"] for one in listed(producer)] == accepted
    assert producer.http.post("/publish", json={"event_id": "e7"}).status_code == 409


def test_a_journal_that_cannot_be_written_is_503_and_nothing_is_half_accepted(producer: RunningProducer) -> None:
    holder = sqlite3.connect(producer.journal, isolation_level=None)
    holder.execute("begin exclusive")
    answer = producer.http.post("/publish", json=EVENT)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    holder.execute("rollback")
    holder.close()
    assert producer.http.post("/publish", json=EVENT).status_code == 202


def test_a_full_disk_is_503_and_unready_until_there_is_room(producer: RunningProducer) -> None:
    """A limit on the file's size makes every write fail like a full disk."""
    producer.http.post("/publish", json={"event_id": "before"})
    free = resource.prlimit(producer.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(producer.process.pid, resource.RLIMIT_FSIZE, (4096, free[1]))
    answer = producer.http.post("/publish", json=EVENT)
    assert answer.status_code == 503
    for _ in range(100):
        assert producer.http.get("/health/ready").status_code == 503
    assert producer.http.get("/health/live").status_code == 200
    resource.prlimit(producer.process.pid, resource.RLIMIT_FSIZE, free)
    deadline = time.monotonic() + 20
    while producer.http.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert producer.http.post("/publish", json=EVENT).status_code == 202
    assert [one["event_id"] for one in listed(producer)] == ["before", EVENT["event_id"]]


def test_shows_health_metrics_description_and_page(producer: RunningProducer) -> None:
    producer.http.post("/publish", json=EVENT)
    for path in ("/health", "/health/live", "/health/ready", "/openapi.json"):
        assert producer.http.get(path).status_code == 200, path
    assert 'unlost_producer_published_total{outcome="accepted"} 1.0' in producer.http.get("/metrics").text
    page = producer.http.get("/")
    assert "<title>Unlost producer</title>" in page.text
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    there = producer.http.get(producer.stream.replace("ws://", "http://"))
    assert there.status_code == 200
    assert f'content="{producer.url.rsplit(":")[-1]}"' in there.text


@pytest.mark.parametrize("producer", [{"LISTENERS": "http://127.0.0.1:9"}], indirect=True)
def test_names_a_listener_that_is_away(producer: RunningProducer) -> None:
    shown = producer.http.get("/api/follow?ids=a,b").json()
    assert shown["outcomes"] == {"a": [], "b": []}
    assert list(shown["away"]) == ["http://127.0.0.1:9"]
    assert producer.http.get("/api/follow").status_code == 400


def test_ends_in_order_and_refuses_to_start_with_one_sentence(producer: RunningProducer, tmp_path: Path) -> None:
    port = producer.url.rsplit(":")[-1]

    def refused(*arguments: str) -> str:
        run = [str(executable("unlost")), "producer", *arguments]
        done = subprocess.run(run, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    assert f"port {port} is taken" in refused("--port", port, "--journal", str(tmp_path / "x"))
    (tmp_path / "file").write_text("")
    assert "cannot be opened" in refused("--port", "0", "--journal", str(tmp_path / "file" / "x"))
    assert producer.end() == 0


def test_a_second_producer_on_the_same_journal_ends_at_once(producer: RunningProducer, tmp_path: Path) -> None:
    command = [str(executable("unlost")), "producer"]
    environment = {**os.environ, "PORT": "0", "WS_PORT": "0", "JOURNAL": str(producer.journal)}
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert f"is in use by another producer (process {producer.process.pid})" in second.stderr
    assert "Traceback" not in second.stderr
    assert producer.http.post("/publish", json=EVENT).status_code == 202
    producer.end(kill=True)
    producer.start()
    assert producer.http.post("/publish", json=EVENT).status_code == 409
