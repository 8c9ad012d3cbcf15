"""Unlost: every event ends as exactly one row, stored by your handler, or as a dead letter.

This is the public interface for handlers and publishers; everything else is internal. The packages are folders of the
repository's top level, and ``unlost/listener`` is a link to ``listener`` (docs/decisions/0058-one-package-of-links.md).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlost.listener.app.embedding import App
    from unlost.listener.core.attempts import Backoff
    from unlost.listener.core.delivery import Delivery
    from unlost.listener.core.errors import Reject, Retry
    from unlost.listener.routing.threads import SyncTransaction
    from unlost.listener.routing.transaction import Transaction
    from unlost.producer.client.outcome import (
        PublishConflict,
        Published,
        PublishError,
        PublishInDoubt,
        PublishRefused,
        PublishRejected,
        PublishUnavailable,
    )
    from unlost.producer.client.publisher import Publisher, SyncPublisher

__all__ = [
    "App",
    "Backoff",
    "Delivery",
    "PublishConflict",
    "PublishError",
    "PublishInDoubt",
    "PublishRefused",
    "PublishRejected",
    "PublishUnavailable",
    "Published",
    "Publisher",
    "Reject",
    "Retry",
    "SyncPublisher",
    "SyncTransaction",
    "Transaction",
]
_OUTCOME = "unlost.producer.client.outcome"
_PUBLISHER = "unlost.producer.client.publisher"
_MODULES = {
    "App": "unlost.listener.app.embedding:App",
    "Backoff": "unlost.listener.core.attempts:Backoff",
    "Delivery": "unlost.listener.core.delivery:Delivery",
    "PublishConflict": f"{_OUTCOME}:PublishConflict",
    "PublishError": f"{_OUTCOME}:PublishError",
    "PublishInDoubt": f"{_OUTCOME}:PublishInDoubt",
    "PublishRefused": f"{_OUTCOME}:PublishRefused",
    "PublishRejected": f"{_OUTCOME}:PublishRejected",
    "PublishUnavailable": f"{_OUTCOME}:PublishUnavailable",
    "Published": f"{_OUTCOME}:Published",
    "Publisher": f"{_PUBLISHER}:Publisher",
    "Reject": "unlost.listener.core.errors:Reject",
    "Retry": "unlost.listener.core.errors:Retry",
    "SyncPublisher": f"{_PUBLISHER}:SyncPublisher",
    "SyncTransaction": "unlost.listener.routing.threads:SyncTransaction",
    "Transaction": "unlost.listener.routing.transaction:Transaction",
}


def __getattr__(name: str) -> Any:
    """Load a name when it is first used: a daemon must handle signals before it loads other modules."""
    if name not in _MODULES:
        raise AttributeError(f"module 'unlost' has no attribute {name!r}")
    module, _, attribute = _MODULES[name].partition(":")
    return getattr(import_module(module), attribute)
