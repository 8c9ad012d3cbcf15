"""The Postman collection and the Locust file hold against a real producer, with tokens and without."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.producer.conftest import RunningProducer, producer  # noqa: F401  a fixture
from tests.support import postman
from tests.support.needed import needed
from tests.support.postman import requests_of

PUBLISHING = Path(__file__).parents[3] / "docs" / "examples" / "publishing"
COLLECTION = PUBLISHING / "unlost.postman_collection.json"


def test_every_request_of_the_collection_is_answered_as_it_says(producer: RunningProducer) -> None:  # noqa: F811
    names = postman.run(COLLECTION, {"producer": producer.url})
    assert len(names) == len(set(names)) > 10
    assert postman.run(COLLECTION, {"producer": producer.url, "run": "2"}) == names


def test_the_collection_names_every_way_to_publish() -> None:
    paths = {one["request"]["url"]["raw"] for one in requests_of(json.loads(COLLECTION.read_text())["item"])}
    ways = ("/publish", "/publish/batch", "/api/v1/ddup_service/events", "/api/v1/ddup_service/test")
    assert {f"{{{{producer}}}}{way}" for way in ways} <= paths


@pytest.mark.timeout(120)
def test_the_load_breaks_no_promise(producer: RunningProducer) -> None:  # noqa: F811
    run = [sys.executable, "-m", "locust", "-f", str(PUBLISHING / "locustfile.py"), "--host", producer.url]
    headless = ["--headless", "--users", "5", "--spawn-rate", "50", "--run-time", "3s", "--json", "--only-summary"]
    done = subprocess.run([*run, *headless], capture_output=True, text=True, timeout=110, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    stats = {one["name"]: one for one in json.loads(done.stdout)}
    assert set(stats) == {"/publish", "/publish/batch", "/api/v1/ddup_service/events"}
    assert sum(one["num_failures"] for one in stats.values()) == 0
    published = producer.http.get("/metrics").text
    counts = {name: float(value) for name, value in re.findall(r'published_total\{outcome="(\w+)"\} (\S+)', published)}
    assert counts["accepted"] > 100
    assert counts["duplicate"] > 0
    assert counts["conflict"] == counts["invalid"] == counts["too_large"] == 0


def test_the_load_notices_a_broken_promise(producer: RunningProducer, tmp_path: Path) -> None:  # noqa: F811
    """The file is made to expect that each first event is a duplicate."""
    broken = tmp_path / "locustfile.py"
    broken.write_text((PUBLISHING / "locustfile.py").read_text().replace('first, "accepted")', 'first, "duplicate")'))
    run = [sys.executable, "-m", "locust", "-f", str(broken), "--host", producer.url, "--headless", "--users", "5"]
    headless = ["--spawn-rate", "50", "--run-time", "2s", "--only-summary"]
    done = subprocess.run([*run, *headless], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "answered [{" in done.stdout + done.stderr


def test_the_script_publishes_one_event(producer: RunningProducer) -> None:  # noqa: F811
    """Node 18 has no global ``crypto`` without a flag."""
    run = [needed("node", package="nodejs"), "--experimental-global-webcrypto", "--input-type=module"]
    script = (PUBLISHING / "publish.ts").read_text()
    environment = os.environ | {"PRODUCER_URL": producer.url, "NO_PROXY": "*"}
    done = subprocess.run(run, input=script, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "accepted"
    assert len(producer.http.get("/api/journal").text.splitlines()) == 1
