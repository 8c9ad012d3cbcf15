"""``HANDLER=unlost.webhook:app`` sends each event to ``WEBHOOK_URL``, after its row."""

from unlost.listener.shipped.webhook import app

__all__ = ["app"]
