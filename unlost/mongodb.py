"""``HANDLER=unlost.mongodb:app`` keeps each event as a document in MongoDB too, beside its row."""

from unlost.listener.shipped.mongodb import app

__all__ = ["app"]
