"""Where the pauses of a group are kept, for all its listeners."""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.pause import Pause


class Pauses(Protocol):
    """The pauses that hold now. A failed call raises ``Transient``, or ``Permanent`` if it can never succeed."""

    async def now(self) -> Sequence[Pause]:
        """Return them."""
        ...
