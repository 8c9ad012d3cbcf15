"""Load on a producer: locust -f locustfile.py --host http://127.0.0.1:3005

Each user publishes one by one, in batches, and by the hash of the content, and sends a tenth of the events twice. An
answer that breaks a promise of the producer counts as a failure. UNLOST_TOKEN is sent if it is set.
"""

import json
import os
import random
import uuid
from typing import Any

from locust import FastHttpUser, constant_pacing, task

LINES = 100
AT_ONCE = 503
"""A producer that is busy says when to come back. That breaks no promise."""


class Shop(FastHttpUser):
    wait_time = constant_pacing(0.05)

    def on_start(self) -> None:
        token = os.environ.get("UNLOST_TOKEN")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def order(self) -> dict[str, Any]:
        return {"sku": random.choice(("a-17", "b-4")), "count": random.randint(1, 5), "note": uuid.uuid4().hex}

    def send(self, path: str, body: str, *allowed: int) -> list[dict[str, Any]]:
        """The outcomes, or none if the producer is busy."""
        with self.client.post(path, data=body, headers=self.headers, catch_response=True) as answer:
            if answer.status_code not in (*allowed, AT_ONCE):
                answer.failure(f"{answer.status_code}: {answer.text}")
            if answer.status_code == AT_ONCE:
                answer.success()
                return []
            answer.success() if answer.status_code in allowed else None
            return [json.loads(line) for line in (answer.text or "").splitlines()]

    def expect(self, path: str, outcomes: list[dict[str, Any]], *wanted: str) -> None:
        """Report an outcome that breaks a promise."""
        if outcomes and [one["status"] for one in outcomes] != list(wanted):
            self.environment.events.request.fire(
                request_type="promise", name=path, response_time=0, response_length=0,
                exception=AssertionError(f"{path} answered {outcomes[:3]}"), context={},
            )  # fmt: skip

    @task(6)
    def one(self) -> None:
        body = json.dumps({"event_id": uuid.uuid4().hex, "type": "order.created", "payload": self.order()})
        first = self.send("/publish", body, 202)
        self.expect("/publish", first, "accepted")
        if first and random.random() < 0.1:
            self.expect("/publish", self.send("/publish", body, 409), "duplicate")

    @task(2)
    def many(self) -> None:
        events = [
            {"event_id": uuid.uuid4().hex, "type": "order.created", "payload": self.order()} for _ in range(LINES)
        ]
        body = "\n".join(map(json.dumps, events))
        self.expect("/publish/batch", self.send("/publish/batch", body, 200), *["accepted"] * LINES)

    @task(2)
    def by_content(self) -> None:
        path = "/api/v1/ddup_service/events"
        body = json.dumps({"event_type": "order.created", **self.order()})
        first = self.send(path, body, 202)
        self.expect(path, first, "accepted")
        if first:
            self.expect(path, self.send(path, body, 409), "duplicate")
