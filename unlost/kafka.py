"""``HANDLER=unlost.kafka:app`` publishes each event to a topic of Kafka, beside its row."""

from unlost.listener.shipped.kafka import app

__all__ = ["app"]
