"""Where declared gaps are kept: for an audit, and as the list of what is still to be fetched.

Also where it is kept until when each listener was in contact with a source, to find the gap over a restart.
"""

from collections.abc import Sequence
from typing import Protocol

from unlost.listener.core.gap import FetchOutcome, Gap, GapTry, LastContact


class Gaps(Protocol):
    """The declared gaps of a group. A failed call raises ``Transient``, or ``Permanent`` if it can never succeed."""

    async def record(self, gaps: Sequence[Gap]) -> None:
        """Record these. A gap that is recorded already is not changed."""
        ...

    async def take(self, source: str, *, after: float, lease: float) -> GapTry | None:
        """Take a gap of this source to fetch, if one was declared ``after`` seconds ago or earlier, and count the try.

        No listener gets a gap of this source for ``lease`` seconds, or until ``fetched``.
        """
        ...

    async def contacts(self, source: str) -> Sequence[LastContact]:
        """Return the last contacts of other listeners with this source. A process that starts anew is another one."""
        ...

    async def keep_contact(self, source: str, contact: LastContact) -> None:
        """Keep the last contact of this listener with this source, and remove those of listeners long gone."""
        ...

    async def keep(self, gap_id: str, *, lease: float, why: str = "") -> None:
        """Keep a gap that was taken for ``lease`` more seconds. ``why``: what is done meanwhile."""
        ...

    async def fetched(
        self, gap_id: str, *, found: int, outcome: FetchOutcome | None, why: str, wait: float = 0.0
    ) -> None:
        """Record that ``found`` events were found since, and the outcome; None: try again after ``wait`` seconds."""
        ...
