"""Where a group keeps what people are notified of."""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.notification import Notification


class Notifications(Protocol):
    """Each happening is entered once for each receiver, and taken by one listener at a time."""

    async def enter(self, targets: Sequence[str]) -> None:
        """Look for happenings, and enter those that are new."""
        ...

    async def take(self, targets: Sequence[str], most: int, lease: float) -> Sequence[Notification]:
        """Take some that are ready; no other listener gets them for ``lease`` seconds."""
        ...

    async def ended(self, one: Notification, outcome: str) -> None:
        """Record that it needs no further attempt."""
        ...

    async def again(self, one: Notification, after: float) -> None:
        """Let it be taken again after some seconds."""
        ...
