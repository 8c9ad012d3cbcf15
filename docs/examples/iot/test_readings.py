"""The tests of the example, on a MongoDB: MONGODB_URL=mongodb://127.0.0.1/iot pytest docs/examples/iot"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from readings import app

from unlost.testing import TestApp


@pytest.fixture
def iot() -> Iterator[Database[dict[str, Any]]]:
    with MongoClient[dict[str, Any]](os.environ["MONGODB_URL"]) as client:
        database = client.get_default_database()
        yield database
        client.drop_database(database)


def reading(celsius: float, at: str = "2026-03-01T12:00:00Z") -> dict[str, Any]:
    return {"sensor": "roof", "at": at, "celsius": celsius}


def test_a_reading_that_comes_twice_is_one_document(iot: Database[dict[str, Any]]) -> None:
    with TestApp(app) as test:
        for _ in range(2):
            assert test.run(reading(21.5), type="reading", event_id="r1").outcome in ("stored", "duplicate")
    assert [(one["_id"], one["celsius"]) for one in iot.readings.find()] == [("r1", 21.5)]


def test_a_late_reading_does_not_replace_a_newer_one(iot: Database[dict[str, Any]]) -> None:
    with TestApp(app) as test:
        test.run(reading(21.5), type="reading")
        test.run(reading(3.0, at="2026-03-01T05:00:00Z"), type="reading")
    assert [one["celsius"] for one in iot.sensors.find()] == [21.5]
    assert iot.readings.count_documents({}) == 2


def test_a_reading_without_a_time_is_a_letter(iot: Database[dict[str, Any]]) -> None:
    with TestApp(app) as test:
        result = test.run({"sensor": "roof", "celsius": 1.0}, type="reading")
    assert (result.outcome, iot.readings.count_documents({})) == ("invalid", 0)
