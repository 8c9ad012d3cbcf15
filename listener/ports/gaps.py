"""Where declared gaps are kept: for an audit, and as the list of what is still to be fetched."""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.gap import FetchOutcome, Gap, GapTry


class Gaps(Protocol):
    """The declared gaps of a group. A failed call raises ``Transient``, or ``Permanent`` if it can never succeed."""

    async def record(self, gaps: Sequence[Gap]) -> None:
        """Record these. A gap that is recorded already is not changed."""
        ...

    async def take(self, source: str, *, after: float, lease: float) -> GapTry | None:
        """Take a gap of this source to fetch, if one was declared ``after`` seconds ago or earlier, and count the try.

        No other listener gets it for ``lease`` seconds.
        """
        ...

    async def fetched(
        self, gap_id: str, *, found: int, outcome: FetchOutcome | None, why: str, wait: float = 0.0
    ) -> None:
        """Record that ``count`` events were found since, and the outcome; None: try again after ``wait`` seconds."""
        ...
