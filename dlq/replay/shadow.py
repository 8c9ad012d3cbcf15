"""A shadow replay: what today's handler would do with letters, found out in transactions that are rolled back.

Nothing is stored, claimed or recorded, and no state changes.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Literal, Protocol, Self, get_args

import msgspec

from unlost.dlq.record.query import Selection
from unlost.dlq.replay.plan import RESOLVED, SOME_FAILED
from unlost.dlq.store.entries import LetterEntry
from unlost.dlq.store.port import LetterStore, is_held_back, taken_by

ShadowOutcome = Literal[
    "succeeds", "fails_the_same", "fails_otherwise", "stored_already", "conflicts", "cannot_be_tried"
]
OUTCOMES: tuple[ShadowOutcome, ...] = get_args(ShadowOutcome)
KEPT = 10_000
"""So many results are kept for the report."""


class ShadowResult(msgspec.Struct, frozen=True):
    """The outcome that one letter would have. ``wrote``: by table, how many rows it would insert, update and delete."""

    letter_id: str
    event_id: str | None
    version: int
    outcome: ShadowOutcome
    error_type: str = ""
    message: str = ""
    wrote: Mapping[str, tuple[int, int, int]] = {}


class ShadowRun(Protocol):
    """Today's handler, ready to run. Entering raises ``Transient`` or ``Misconfigured`` with a clear sentence."""

    async def __aenter__(self) -> Self:
        """Connect, and make the handler ready."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Release everything."""

    async def run(self, entry: LetterEntry) -> ShadowResult:
        """Run one letter and undo it. Raises ``Transient`` if the servers cannot be used."""


@dataclass(slots=True)
class ShadowReport:
    """How a shadow replay went."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrote: dict[str, list[int]] = field(default_factory=dict)
    results: list[ShadowResult] = field(default_factory=list)
    error: str = ""

    @property
    def letters(self) -> int:
        """How many letters were tried."""
        return sum(self.outcomes.values())

    def add(self, result: ShadowResult) -> None:
        """Add one result."""
        self.outcomes[result.outcome] += 1
        for table, counts in result.wrote.items():
            sums = self.wrote.setdefault(table, [0, 0, 0])
            self.wrote[table] = [one + other for one, other in zip(sums, counts, strict=True)]
        if len(self.results) < KEPT:
            self.results.append(result)

    def exit_code(self) -> int:
        """The exit code of the command."""
        fine = self.outcomes["succeeds"] + self.outcomes["stored_already"]
        return RESOLVED if fine == self.letters and not self.error else SOME_FAILED


async def run_shadow(
    run: ShadowRun, store: LetterStore, selection: Selection, limit: int, report: ShadowReport,
    each: Callable[[LetterEntry, ShadowResult], ShadowResult],
) -> None:  # fmt: skip
    """Try the letters that a replay would take. ``each`` gets every result, and may mask it."""
    async for entry in _taken(store, selection, limit):
        report.add(each(entry, await run.run(entry)))


async def _taken(store: LetterStore, selection: Selection, limit: int) -> AsyncIterator[LetterEntry]:
    takes = taken_by(selection)
    chosen = selection if selection.statuses else replace(selection, statuses=frozenset(takes))
    count = 0
    async for entries in store.each(chosen):
        for entry in entries:
            if entry.unreadable or entry.state.status not in takes or is_held_back(entry.letter, selection):
                continue
            if limit and count >= limit:
                return
            count += 1
            yield entry
