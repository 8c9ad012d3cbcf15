"""Edits letters, many at a time: a dry run that changes nothing, or a run that leases each letter first.

A letter is leased, read, edited and recorded, and its lease ends with the record. So an edit and a replay of one letter
never meet: a row is stored from the version that its letter names. An interrupted edit can be run again.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from unlost.dlq.edit.change import CannotEdit, EventChange
from unlost.dlq.edit.versions import Proposal, proposed
from unlost.dlq.record.letter_state import Record, later_than
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import LetterEntry
from unlost.dlq.store.port import CHANGEABLE, LetterStore

AT_ONCE = 100
KEPT = 100
"""So many proposals and refusals are kept to be shown."""


@dataclass(slots=True)
class EditReport:
    """How an edit went, or would go."""

    changed: int = 0
    unchanged: int = 0
    refused: int = 0
    elsewhere: int = 0
    unreadable: int = 0
    proposals: list[Proposal] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    """Letters that cannot be edited so, each with the reason."""


async def rehearse(store: LetterStore, selection: Selection, change: EventChange) -> EditReport:
    """Report what an edit would do."""
    report = EditReport()
    async for entries in store.each(selection):
        found = await _with_history(store, [one for one in entries if _may_be_edited(one)])
        await asyncio.to_thread(_proposals, found, change, report)
    report.unreadable = len(store.damages)
    return report


async def edit(
    store: LetterStore, selection: Selection, change: EventChange, *, by: str, why: str, about: str,
    advance: Callable[[EditReport], None] = lambda _: None,
) -> EditReport:  # fmt: skip
    """Make the versions. Raises ``Locked``, ``Unreachable``."""
    report = EditReport()
    every = replace(selection, rejected=True)
    async with store.replaying(every, 0, about, CHANGEABLE["edited"]) as taking:
        while taken := await taking.take(AT_ONCE):
            # In a thread, so that leases are renewed while the user's function runs.
            made = await asyncio.to_thread(_proposals, await _with_history(store, taken), change, report)
            now = time.time()
            report.changed -= await taking.record([_record(one, now, by=by, why=why) for one in made])
            edited = {one.entry.letter.letter_id for one in made}
            await taking.free([one.letter.letter_id for one in taken if one.letter.letter_id not in edited])
            advance(report)
        report.elsewhere, report.unreadable = taking.elsewhere, taking.unreadable
    return report


Found = Sequence[tuple[LetterEntry, Sequence[Record]]]


async def _with_history(store: LetterStore, entries: Sequence[LetterEntry]) -> Found:
    edited = [one.letter.letter_id for one in entries if one.state.version > 1]
    known = await store.history(edited) if edited else {}
    return [(one, known.get(one.letter.letter_id, ())) for one in entries]


def _proposals(found: Found, change: EventChange, report: EditReport) -> list[Proposal]:
    made: list[Proposal] = []
    for entry, history in found:
        try:
            one = proposed(entry, history, change)
        except CannotEdit as error:
            report.refused += 1
            if len(report.refusals) < KEPT:
                report.refusals.append((entry.letter.letter_id, str(error)))
            continue
        if one is None:
            report.unchanged += 1
        else:
            made.append(one)
    report.changed += len(made)
    report.proposals += made[: KEPT - len(report.proposals)]
    return made


def _may_be_edited(entry: LetterEntry) -> bool:
    return entry.state.status in CHANGEABLE["edited"] and not entry.unreadable


def _record(one: Proposal, now: float, *, by: str, why: str) -> Record:
    state = one.entry.state
    at = later_than(state, max(now, (state.edited_at or 0.0) + 1e-6))
    return Record(one.entry.letter.letter_id, "edited", at, why, by=by, edit=one.edit)
