"""Each event as a document in MongoDB, beside its row: ``HANDLER=unlost.mongodb:app``.

The document has the event's id as ``_id``. It is written before the row, by an upsert, so a second run writes the same
document once more. ``majority`` and the journal: what was acknowledged survives the death of the primary. The row is
inserted afterwards, so every row has its document. A document without a row belongs to an event still in progress, or
to a dead letter.
"""

from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field

from unlost.listener.app.embedding import App
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.errors import Misconfigured, Reject
from unlost.ops.kit.command import SecretUrl, Settings, UsageProblem

try:
    from bson.errors import BSONError
    from pymongo import AsyncMongoClient, WriteConcern
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.errors import ConfigurationError, DocumentTooLarge, InvalidName, PyMongoError
    from pymongo.uri_parser import parse_uri
except ImportError as error:
    raise Misconfigured('unlost.mongodb needs the package pymongo: pip install "unlost[mongodb]"') from error

LONGEST_CALL = 10.0
"""Seconds that one write may take. It is below the limit of an attempt, so that MongoDB's own error is reported."""

app = App()


class MongoSettings(Settings):
    """Where documents are written."""

    mongodb_url: SecretUrl = Field(
        SecretUrl("mongodb://127.0.0.1:27017/unlost"), description="MongoDB, with the name of the database"
    )
    mongodb_collection: str = Field("events", min_length=1, description="Collection of the documents")


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    """Connect to the collection. A server that is away does not prevent the start: attempts fail until it is back."""
    try:
        settings = MongoSettings.load({})
        url = settings.mongodb_url.reveal()
        database = parse_uri(url, validate=False)["database"] or "unlost"
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            url, connect=False, timeoutMS=int(LONGEST_CALL * 1000), appname="unlost"
        )
        collection = client[database].get_collection(
            settings.mongodb_collection, write_concern=WriteConcern("majority", j=True)
        )
    except UsageProblem as error:
        raise Misconfigured(*error.problems) from error
    except (ConfigurationError, InvalidName, ValueError) as error:
        raise Misconfigured(f"MONGODB_URL or MONGODB_COLLECTION cannot be used: {error}") from error
    async with client:
        yield {"collection": collection}


@app.otherwise
async def keep(event: Delivery, collection: AsyncCollection[dict[str, Any]]) -> None:
    """Write the document of one event."""
    document = {"_id": event.event_id, "type": event.type, "payload": event.payload, "other": event.other}
    try:
        await collection.replace_one({"_id": event.event_id}, document, upsert=True)
    except (DocumentTooLarge, BSONError, OverflowError, RecursionError) as error:
        raise Reject(f"MongoDB cannot store this event: {type(error).__name__}: {error}") from error
    except PyMongoError as error:
        if error.has_error_label("RetryableWriteError") or error.timeout:
            raise
        if getattr(error, "code", None) in REFUSED:
            raise Reject(f"MongoDB refuses this event: {error}") from error
        raise


REFUSED = frozenset((10334, 17280, 17419, 17420, 40353))
"""Objects that are too large or badly nested: the document itself is at fault. BadValue (2) may also be about a setting
of the server, such as no journal."""
