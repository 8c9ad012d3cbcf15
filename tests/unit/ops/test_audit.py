"""``unlost audit`` on a real system: the sums balance, lost events are found, and waiting ones are not missing."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.support.system import running_system
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.system.ports import free_port
from unlost.producer.journal.sqlite import groups

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
        for one in groups.groups_in(file):
            groups.forget(file, one.name)
    system.producer.start()
    with httpx.Client(base_url=system.layout.producer_url, trust_env=False) as client:
        system.producer.wait_until(lambda: _is_ready(client), 30)


def _is_ready(client):
    try:
        return client.get("/health/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.timeout(120)
def test_it_distinguishes_rows_waiting_and_missing():
    with running_system(1) as system, httpx.Client(base_url=system.layout.producer_url, trust_env=False) as producer:
        for number in range(20):
            answer = producer.post("/publish", json={"event_id": f"e-{number}", "payload": {"n": number}})
            assert answer.status_code == 202
        rows = "select count(*) from unlost.events"
        system.listeners[0].wait_until(lambda: system.postgres.sql(rows, "unlost") == "20", 30)
        letters = system.layout.letter_files[0].resolve()
        letters.touch()
        system.postgres.sql(
            "insert into unlost.gaps (gap_id, source, how, instance, began_at, declared_at)"
            " select 'g' || n, 's', 'sequence', 'a', now(), now() from generate_series(1, 120) n",
            "unlost",
        )
        code, account = audited(system)
        assert (code, account["accepted"], account["rows"], account["missing"]) == (0, 20, 20, 0)
        assert (account["letter_files"], account["gaps"], len(account["declared_gaps"])) == ([str(letters)], 120, 100)
        known = json.loads(run(system, "event", "e-7").stdout)
        assert known["letter_files"] == [str(letters)]
        assert known["row"]["event_id"] == "e-7"
        assert known["journal"]["cursor"]
        system.listeners[0].stop()
        system.postgres.sql("delete from unlost.events where event_id = 'e-3'", "unlost")
        assert producer.post("/publish", json={"event_id": "late", "payload": {}}).status_code == 202
        assert producer.post("/publish?redeliver=true", json={"event_id": "e-5", "payload": {"n": 5}}).is_success
        system.postgres.sql("update unlost.events set payload_sha256 = '\\x00' where event_id = 'e-4'", "unlost")
        code, account = audited(system, "--settle", "0")
        assert code == 1
        assert (account["missing_ids"], account["differing_ids"]) == (["e-3"], ["e-4"])
        assert (account["accepted"], account["redelivered"], account["rows"]) == (21, 1, 19)
        assert (account["waiting"], account["unread"]) == (0, 1), "no live listener will read it"
        noted = "select result from unlost.trail where what = 'audit not clean' order by number limit 1"
        assert system.postgres.sql(noted, "unlost") == "1 missing, 1 differing, 1 unread"
        recorded = "select balanced, accepted, wrong from unlost.audits order by number"
        wrong = '{"unread": 1, "missing": 1, "differing": 1}'
        assert system.postgres.sql(recorded, "unlost").splitlines() == ["t|20|{}", f"f|21|{wrong}"]
        run(system, "audit", "--settle", "0", str(letters))
        assert len(system.postgres.sql(recorded, "unlost").splitlines()) == 2, (
            "an audit of single files counts for nobody"
        )
        plain = run(system, "audit", "--settle", "0")
        assert "gap: 20 earlier ones are in the table gaps" in plain.stdout
        shown = plain.stderr
        assert f"letters: read {letters}" in shown.splitlines()
        assert "group unlost has no live listener: nobody reads 1 event; start one" in shown.splitlines(), shown
        forget(system)
        assert "has forgotten the group" in run(system, "audit", "--settle", "0").stderr
        nobody = run(system, "audit", "--group", "typo")
        assert (nobody.returncode, len(nobody.stderr.splitlines())) == (2, 1)
        assert nobody.stderr.startswith("error: PostgreSQL has no tables of this version for group typo")
        misnamed = system.layout.data / "a" / "faild_events.jsonl"
        refused = run(system, "audit", str(misnamed))
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: there is no dead-letter file {misnamed}")


async def migrated(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)
    await database.close()


def test_an_unreachable_system_is_one_clear_sentence(database_url):
    asyncio.run(migrated(database_url))
    done = subprocess.run(
        [UNLOST, "audit", "--producer-url", f"http://127.0.0.1:{free_port()}", "--database-url", database_url],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


async def _prepared(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute(statement)
    await connection.close()


@contextlib.contextmanager
def empty_producer(port: int = 0) -> Iterator[str]:
    """A producer whose journal is empty."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"groups": [], "dropped_unread": 0}' if self.path.endswith("/groups") else b""
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_outcome_that_cannot_be_recorded_is_one_sentence_and_changes_no_exit_code(database_url):
    asyncio.run(migrated(database_url))
    asyncio.run(_prepared(database_url, "alter table unlost.audits rename to others"))
    with empty_producer() as producer:
        done = subprocess.run(
            [UNLOST, "audit", "--producer-url", producer, "--listeners", "", "--database-url", database_url],
            capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (warning,) = (line for line in done.stderr.splitlines() if line.startswith("warning"))
    assert "cannot be recorded" in warning


def test_it_audits_again_and_again_goes_on_after_an_error_and_ends_at_sigterm(database_url):
    asyncio.run(migrated(database_url))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [UNLOST, "audit", "--every", "1s", "--json", "--producer-url", address, "--listeners", "",
         "--database-url", database_url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as audit:  # fmt: skip
        assert audit.stdout
        assert audit.stderr
        assert audit.stderr.readline() == "audits every 1 s, the first in 1 s\n"
        failed = audit.stderr.readline()
        assert failed.startswith(f"error: {address} ")
        with empty_producer(port):
            outcomes = [json.loads(audit.stdout.readline())["accepted"] for _ in range(2)]
            audit.send_signal(signal.SIGTERM)
            audit.communicate(timeout=30)
    assert outcomes == [0, 0]
    assert audit.returncode == 0


@pytest.mark.parametrize("every", ["soon", "0.5s", "1"])
def test_an_interval_that_is_none_is_refused(every):
    done = subprocess.run([UNLOST, "audit", "--every", every], capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: --every")
