"""``unlost audit`` on a real system: the sums balance, lost events are found, and waiting ones are not missing."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.support.system import running_system
from unlost.ops.system.ports import free_port
from unlost.producer.journal import groups

UNLOST = Path(sys.executable).parent / "unlost"


def run(system, *arguments):
    layout = system.layout
    environment = {
        "PRODUCER_URL": layout.producer_url,
        "LISTENERS": ",".join(layout.listener_urls),
        "DATABASE_URL": system.postgres.url,
    }
    environment["LETTERS"] = ",".join(map(str, layout.letter_files))
    return subprocess.run([UNLOST, *arguments], capture_output=True, text=True, env=environment, timeout=60)


def audited(system, *arguments):
    done = run(system, "audit", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def forget(system):
    """As ``unlost journal forget`` does a minute after the last report. The producer is restarted to notice it."""
    system.producer.stop()
    with closing(sqlite3.connect(system.layout.data / "producer" / "journal.sqlite")) as file, file:
        groups.forget(file, "unlost")
    system.producer.start()
    with httpx.Client(base_url=system.layout.producer_url, trust_env=False) as client:
        system.producer.wait_until(lambda: _is_ready(client), 30)


def _is_ready(client):
    try:
        return client.get("/health/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.timeout(120)
def test_it_tells_rows_waiting_and_missing_apart():
    with running_system(1) as system, httpx.Client(base_url=system.layout.producer_url, trust_env=False) as producer:
        for number in range(20):
            answer = producer.post("/publish", json={"event_id": f"e-{number}", "payload": {"n": number}})
            assert answer.status_code == 202
        rows = "select count(*) from unlost.events"
        system.listeners[0].wait_until(lambda: system.postgres.sql(rows, "unlost") == "20", 30)
        code, books = audited(system)
        assert (code, books["accepted"], books["rows"], books["missing"]) == (0, 20, 20, 0)
        known = json.loads(run(system, "event", "e-7").stdout)
        assert known["row"]["event_id"] == "e-7"
        assert known["journal"]["cursor"]
        system.listeners[0].stop()
        system.postgres.sql("delete from unlost.events where event_id = 'e-3'", "unlost")
        assert producer.post("/publish", json={"event_id": "late", "payload": {}}).status_code == 202
        assert producer.post("/publish?redeliver=true", json={"event_id": "e-5", "payload": {"n": 5}}).is_success
        system.postgres.sql("update unlost.events set payload_sha256 = '\\x00' where event_id = 'e-4'", "unlost")
        code, books = audited(system, "--settle", "0")
        assert code == 1
        assert (books["missing_ids"], books["differing_ids"]) == (["e-3"], ["e-4"])
        assert (books["accepted"], books["redelivered"], books["rows"]) == (21, 1, 19)
        assert (books["waiting"], books["unread"]) == (0, 1), "no live listener will read it"
        told = run(system, "audit", "--settle", "0").stderr
        assert told.startswith("group unlost has no live listener: nobody reads 1 events; start one\n"), told
        forget(system)
        assert "has forgotten the group" in run(system, "audit", "--settle", "0").stderr
        nobody = run(system, "audit", "--group", "typo")
        assert (nobody.returncode, len(nobody.stderr.splitlines())) == (2, 1)
        assert nobody.stderr.startswith("error: PostgreSQL has no tables of this version for group typo")
        misnamed = system.layout.data / "a" / "faild_events.jsonl"
        refused = run(system, "audit", str(misnamed))
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: there is no dead-letter file {misnamed}")


def test_an_unreachable_system_is_one_clear_sentence(database_url):
    done = subprocess.run(
        [UNLOST, "audit", "--producer-url", f"http://127.0.0.1:{free_port()}", "--database-url", database_url],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1
