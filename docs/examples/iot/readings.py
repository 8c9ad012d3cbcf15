"""Readings of sensors, kept in MongoDB too.

Run it: HANDLER=readings:app MONGODB_URL=mongodb://127.0.0.1/iot unlost up
"""

import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase

from unlost import App, Backoff, Delivery

app = App()


class Reading(msgspec.Struct):
    sensor: str
    at: datetime
    celsius: float


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    url = os.environ.get("MONGODB_URL", "mongodb://127.0.0.1:27017/iot")
    # What is acknowledged must survive the death of the primary, and a call must end before the attempt does.
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url, timeoutMS=5_000)
    async with client:
        yield {"iot": client.get_default_database(write_concern=WriteConcern("majority", j=True))}


@app.on("reading", retry=Backoff(attempts=6, first=0.5, longest=60))
async def keep(reading: Reading, event: Delivery, iot: AsyncDatabase[dict[str, Any]]) -> None:
    """Write a document with the event's id. A second run writes the same document once more."""
    document = {"sensor": reading.sensor, "at": reading.at, "celsius": reading.celsius}
    await iot.readings.replace_one({"_id": event.event_id}, {"_id": event.event_id, **document}, upsert=True)
    # The newest reading of each sensor: one that comes late does not replace a newer one.
    await iot.sensors.update_one({"_id": reading.sensor}, {"$setOnInsert": {"at": reading.at}}, upsert=True)
    await iot.sensors.update_one({"_id": reading.sensor, "at": {"$lte": reading.at}}, {"$set": document})
