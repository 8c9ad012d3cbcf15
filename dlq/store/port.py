"""The port of letters: the promises of every store of them. Adapters: files, and PostgreSQL's table.

A replay locks each letter that it takes, so two replays share the letters and never run the same one. A lock ends with
its holder. The record of a letter's fate is durable when ``record`` returns.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from unlost.dlq.record.file import DamagedLine
from unlost.dlq.record.letter_state import WAITING, Record, Status, What
from unlost.dlq.record.query import Outlined, Selection
from unlost.dlq.store.entries import LetterEntry, LetterGroup, Statistics
from unlost.listener.core.errors import UnlostError

UNRESOLVED: frozenset[Status] = frozenset({"open", "failed", "archived", "quarantined"})
CHANGEABLE: dict[What, frozenset[Status]] = {
    "archived": frozenset({"open", "failed", "quarantined"}),
    "restored": frozenset({"archived", "quarantined"}),
    "quarantined": frozenset({"open", "failed"}),
    "edited": UNRESOLVED,
    "noted": UNRESOLVED | {"resolved"},
    "assigned": UNRESOLVED | {"resolved"},
}
"""The states from which a letter can be archived, restored, put in quarantine and so on."""


class Locked(UnlostError):
    """Another process replays or compacts these letters. The text says which, and who."""


class Unreachable(UnlostError):
    """The letters cannot be read or changed now. The text says why."""


@dataclass(frozen=True, slots=True)
class LetterPage:
    """The latest of the selected letters, oldest first, and how many are selected in all."""

    entries: tuple[LetterEntry, ...]
    count: int


@dataclass(slots=True)
class Plan:
    """The letters that a replay would take, and those that it would skip."""

    letters: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    over: Counter[str] = field(default_factory=Counter)
    handlers: Counter[str | None] = field(default_factory=Counter)
    groups: Counter[str | None] = field(default_factory=Counter)
    damages: list[DamagedLine] = field(default_factory=list)


class TakenLetters(Protocol):
    """The letters that one replay takes, a few at a time, oldest first."""

    elsewhere: int
    """How many letters were left to another replay that holds them."""

    unreadable: int
    """How many letters were left out because they cannot be read."""

    async def take(self, most: int) -> Sequence[LetterEntry]:
        """Lock and return the next letters; an empty sequence at the end. ``Unreachable`` if they cannot be locked."""

    async def record(self, records: Sequence[Record]) -> int:
        """Record what became of letters that were taken, durably, and free them. ``Unreachable`` if that fails.

        An edit of a letter that another holds or resolved meanwhile is left out. Returns how many were.
        """

    async def free(self, letter_ids: Sequence[str]) -> None:
        """Give letters back that were not run."""


class LetterStore(Protocol):
    """Letters and what became of them. Every call may raise ``Unreachable``."""

    @property
    def where(self) -> str:
        """Where these letters are, for people."""

    @property
    def damages(self) -> Sequence[DamagedLine]:
        """The lines that could not be read so far."""

    async def latest(self, selection: Selection, limit: int) -> LetterPage:
        """Return the latest letters; all with a limit of 0."""

    def each(self, selection: Selection) -> AsyncIterator[Sequence[LetterEntry]]:
        """Yield all selected letters in batches."""

    async def groups(self, selection: Selection) -> list[LetterGroup]:
        """Return the letters that failed alike, the largest group first."""

    async def statistics(self, selection: Selection) -> Statistics:
        """Return counts of letters by reason, class and state."""

    async def blocking(self, selection: Selection) -> int:
        """Return how many of these letters block their keys, as far as is known here."""

    async def change(
        self, selection: Selection, what: What, detail: str, by: str, *, followers_go: bool = False
    ) -> int:
        """Archive, restore, quarantine, note or assign those selected letters whose state allows it; return how many.

        ``followers_go``: they no longer block their keys. Edits are made by ``replaying``, which leases each letter.
        """

    async def history(self, letter_ids: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """Return everything that happened to these letters, with all versions of their events, oldest first."""

    async def plan(self, selection: Selection, limit: int) -> Plan:
        """Return what a replay of these letters would do."""

    async def still_answers(self) -> bool:
        """Return whether the letters can be used now. If not, all later calls fail at once: locks end by themselves."""

    def replaying(
        self, selection: Selection, limit: int, about: str, takes: frozenset[Status] | None = None
    ) -> AbstractAsyncContextManager[TakenLetters]:
        """Begin a replay, or an edit. ``about`` describes it to others; ``takes``: letters of these states.

        By default these are the states that a replay takes. Raises ``Locked``.
        """


def taken_by(selection: Selection) -> frozenset[Status]:
    """The states of letters that a replay takes: those that wait, and quarantined ones if they were named."""
    return WAITING | {"quarantined"} if selection.asks_for_quarantined else WAITING


def is_held_back(letter: Outlined, selection: Selection) -> bool:
    """Whether to skip a letter that the handler rejected for good, since rejected letters were not selected."""
    return letter.reason == "rejected" and not selection.asks_for_rejected
