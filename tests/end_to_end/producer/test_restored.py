"""A journal set back to a backup that lacks what listeners have read since. No later event is skipped."""

import re
import time
from collections.abc import Callable

import httpx
import pytest

from tests.support.system import running_system
from unlost.ops.faults.drills import journals
from unlost.ops.system.system import System

BEFORE, LOST, AFTER = 50, 300, 700
GAPS = re.compile(r"^unlost_source_gaps_total\{[^}]*\} ([0-9]+)", re.MULTILINE)


def publish(system: System, name: str, count: int) -> None:
    lines = b"".join(b'{"event_id":"%b-%d","payload":%d}\n' % (name.encode(), n, n) for n in range(count))
    answer = httpx.post(f"{system.layout.producer_url}/publish/batch", content=lines, trust_env=False, timeout=20)
    assert answer.status_code == 200
    assert answer.text.count('"accepted"') == count


def rows(system: System, name: str) -> int:
    return int(system.postgres.sql(f"select count(*) from unlost.events where event_id like '{name}-%'", "unlost"))


def gaps(url: str) -> int:
    return sum(map(int, GAPS.findall(httpx.get(f"{url}/metrics", trust_env=False).text)))


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(240)
def test_events_that_a_restored_journal_accepts_are_stored() -> None:
    with running_system(2) as system:
        journal = system.layout.data / "producer" / "journal.sqlite"
        urls = system.layout.listener_urls
        publish(system, "before", BEFORE)
        journals.back_up(journal)
        publish(system, "lost", LOST)
        until(lambda: (rows(system, "before"), rows(system, "lost")) == (BEFORE, LOST))
        system.producer.stop()
        journals.restore(journal)
        system.producer.start()
        until(lambda: all(gaps(url) == 1 for url in urls))
        publish(system, "after", AFTER)
        until(lambda: rows(system, "after") == AFTER)
        assert (rows(system, "before"), rows(system, "lost")) == (BEFORE, LOST)
        assert [gaps(url) for url in urls] == [1, 1]
        until(
            lambda: (
                str(system.postgres.sql("select cursor from unlost.cursors", "unlost"))
                .strip()
                .endswith(f".{BEFORE + AFTER}")
            )
        )
