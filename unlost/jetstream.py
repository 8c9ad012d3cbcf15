"""``HANDLER=unlost.jetstream:app`` publishes each event to a subject of JetStream, beside its row."""

from unlost.listener.shipped.jetstream import app

__all__ = ["app"]
