"""Declared gaps, kept in memory."""

from collections.abc import Sequence

from unlost.listener.core.gap import FetchOutcome, Gap, GapTry, LastContact


class KeptGaps:
    """``Gaps`` without a server, and without a clock: each gap can be taken until it has an outcome."""

    def __init__(self) -> None:
        self.recorded: dict[str, Gap] = {}
        self.tries: dict[str, int] = {}
        self.found: dict[str, int] = {}
        self.outcomes: dict[str, tuple[FetchOutcome, str]] = {}
        self.others: list[LastContact] = []
        self.kept: list[LastContact] = []
        self.waits: list[tuple[float, str]] = []

    async def record(self, gaps: Sequence[Gap]) -> None:
        """See ``Gaps``."""
        for gap in gaps:
            self.recorded.setdefault(gap.gap_id, gap)

    async def take(self, source: str, *, after: float, lease: float) -> GapTry | None:
        """See ``Gaps``."""
        for gap in self.recorded.values():
            if gap.source == source and gap.gap_id not in self.outcomes:
                self.tries[gap.gap_id] = self.tries.get(gap.gap_id, 0) + 1
                return GapTry(gap, self.tries[gap.gap_id])
        return None

    async def contacts(self, source: str) -> Sequence[LastContact]:
        """See ``Gaps``."""
        return self.others

    async def keep_contact(self, source: str, contact: LastContact) -> None:
        """See ``Gaps``."""
        self.kept.append(contact)

    async def keep(self, gap_id: str, *, lease: float, why: str = "") -> None:
        """See ``Gaps``."""
        assert gap_id not in self.outcomes
        self.waits.append((lease, why))

    async def fetched(
        self, gap_id: str, *, found: int, outcome: FetchOutcome | None, why: str, wait: float = 0.0
    ) -> None:
        """See ``Gaps``."""
        self.found[gap_id] = self.found.get(gap_id, 0) + found
        if outcome is None:
            self.waits.append((wait, why))
        else:
            self.outcomes[gap_id] = outcome, why
