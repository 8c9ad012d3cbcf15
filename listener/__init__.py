"""Unlost's listener: claims, handles and stores each event of a WebSocket source exactly once.

What a handler may need is public here: ``Reject`` and ``Delivery``.
"""

from listener.delivery import Delivery
from listener.errors import Reject

__all__ = ["Delivery", "Reject"]
__version__ = "0.1.0"
