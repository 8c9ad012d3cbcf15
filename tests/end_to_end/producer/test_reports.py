"""A real listener reports to a real producer what its group has settled."""

import httpx
import pytest

from tests.support.system import running_system


@pytest.mark.timeout(120)
def test_the_journal_learns_what_a_group_has_settled():
    with running_system(1) as system, httpx.Client(base_url=system.layout.producer_url, trust_env=False) as producer:

        def groups() -> list[dict]:
            return producer.get("/api/journal/groups").json()["groups"]

        system.producer.wait_until(lambda: bool(groups()), 30)
        for number in range(20):
            assert producer.post("/publish", json={"event_id": f"e-{number}", "payload": number}).status_code == 202
        system.producer.wait_until(lambda: not groups()[0]["unread"], 30)
        (group,) = groups()
        stored = system.postgres.sql("select cursor from unlost.cursors", "unlost").strip()
        assert (group["settled"], group["forgotten"]) == (stored, False)
        system.listeners[0].stop()
        assert producer.post("/publish", json={"event_id": "late", "payload": {}}).status_code == 202
        assert groups()[0]["unread"] == 1
