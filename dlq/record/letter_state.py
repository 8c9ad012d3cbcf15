"""The state of a letter, as its records make it. Pure.

Two sides keep the same records: a file beside the letters (``sidecar.py``) and the fleet's list
(``listener/store/postgres/letters.py``). Each side copies what the other lacks, so a record may arrive late, or twice.
``after`` makes both sides agree on whether a letter is resolved. For that, each record has a later time than the state
that its writer saw (``later_than``), even if clocks differ.

A person may edit a letter's event (``edited``). The record has the whole event, and the number of this version; 1 is
what the publisher sent. Versions change no status and are merged apart: the highest counts, of two with one number the
later. ``noted`` and ``assigned`` change no status either.

Two kinds of records belong to no letter. ``checked``: all letters resolved before it were compared with PostgreSQL
after the loss that its detail names. ``shipped``: how much of both files is in the fleet's list.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, assert_never

import msgspec
from msgspec.structs import force_setattr, replace

from unlost.dlq.record.fingerprint import plain
from unlost.listener.core.errors import MESSAGE_LIMIT
from unlost.listener.core.shortened import shortened
from unlost.ops.kit.telemetry.mask import masked

ALIKE = 64
"""So many details are remembered: most of a batch are the same."""

What = Literal[
    "resolved", "failed", "retried", "archived", "restored", "quarantined", "reopened", "edited", "noted", "assigned",
    "checked", "shipped",
]  # fmt: skip
Status = Literal["open", "failed", "resolved", "archived", "quarantined"]
WAITING: frozenset[Status] = frozenset({"open", "failed"})
"""The states of letters that wait for a replay."""


class Edit(msgspec.Struct, frozen=True):
    """A version of a letter's event. ``base``: the version from which it was made; ``how``: by which patch or function.

    ``event``: the whole event, as JSON on one line.
    """

    version: int
    base: int
    how: str
    event: bytes


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened to a letter. ``detail``: how it was stored, why it was archived, or what failed.

    Wherever it is kept or shown, the detail is short, and passwords are masked.
    ``by``: who did it. A listener that retried a letter in vain records ``retried``, a failed replay ``failed``.
    ``edit``: what an edit made. ``followers``: "go", if later events of the letter's key wait for it no more.
    """

    letter_id: str
    what: What
    at: float
    detail: str = ""
    error_type: str | None = None
    by: str = ""
    edit: Edit | None = None
    followers: str | None = None

    def __post_init__(self) -> None:
        if self.detail:
            force_setattr(self, "detail", clean_detail(self.detail))


@lru_cache(maxsize=ALIKE)
def clean_detail(detail: str) -> str:
    """A detail as records have it: short, with masked passwords."""
    return shortened(masked(plain(detail)), MESSAGE_LIMIT)


class LetterState(msgspec.Struct, frozen=True):
    """The state of a letter. ``replays`` counts the failed ones since it was last restored.

    ``version``: the newest version of its event. ``assigned``: the cause that a person named.
    """

    status: Status = "open"
    replays: int = 0
    at: float | None = None
    detail: str = ""
    error_type: str | None = None
    by: str = ""
    reopened_at: float | None = None
    version: int = 1
    edited_at: float | None = None
    assigned: str = ""
    assigned_at: float | None = None

    def __post_init__(self) -> None:
        if self.detail:  # an earlier version may have kept it as it was
            force_setattr(self, "detail", clean_detail(self.detail))

    @property
    def waits(self) -> bool:
        """Whether a replay would take the letter."""
        return self.status in WAITING


OPEN = LetterState()


def fold(records: Iterable[Record]) -> dict[str, LetterState]:
    """The states that result from a sequence of records."""
    known: dict[str, LetterState] = {}
    for record in records:
        if record.letter_id:
            known[record.letter_id] = after(known.get(record.letter_id, OPEN), record)
    return known


def after(state: LetterState, record: Record) -> LetterState:
    """The state after one more record, which may come late or a second time."""
    match record.what:
        case "checked" | "shipped" | "noted":
            return state
        case "edited":
            return _edited(state, record)
        case "assigned":
            late = state.assigned_at is not None and record.at < state.assigned_at
            return state if late else replace(state, assigned=record.detail, assigned_at=record.at)
        case "resolved":
            return _resolved(state, record)
        case "reopened":
            return _reopened(state, record)
        case "failed" | "retried" | "archived" | "restored" | "quarantined":
            return state if state.status == "resolved" or _is_late(state, record) else _changed(state, record)
        case _:
            assert_never(record.what)


def later_than(state: LetterState, now: float) -> float:
    """The time of a record that changes this state: now, or if clocks differ, a microsecond after its last change."""
    return now if state.at is None or now > state.at else round(state.at + 1e-6, 6)


def _resolved(state: LetterState, record: Record) -> LetterState:
    """A row or another letter settles the event for good, unless its row was lost since (``reopened``)."""
    known = state.at if state.status == "resolved" else state.reopened_at
    return state if known is not None and record.at <= known else _with("resolved", state, record)


def _edited(state: LetterState, record: Record) -> LetterState:
    """The state with this version, if it is the newest. The same record again changes nothing."""
    made = record.edit
    newer = made is not None and (made.version, record.at) > (state.version, state.edited_at or 0.0)
    return replace(state, version=made.version, edited_at=record.at) if made is not None and newer else state


def _reopened(state: LetterState, record: Record) -> LetterState:
    if state.reopened_at is not None and record.at <= state.reopened_at:
        return state
    if _is_late(state, record):
        return replace(state, reopened_at=record.at)
    return replace(_opened(state, record), reopened_at=record.at)


def _opened(state: LetterState, record: Record) -> LetterState:
    return replace(state, status="open", replays=0, at=record.at, detail=record.detail, error_type=None, by=record.by)


def _is_late(state: LetterState, record: Record) -> bool:
    """Whether the state is newer. A failure at the same time is the same failure, written twice."""
    if state.at is None:
        return False
    return record.at <= state.at if record.what in ("failed", "retried") else record.at < state.at


def _changed(state: LetterState, record: Record) -> LetterState:
    match record.what:
        case "restored":
            return _opened(state, record)
        case "archived" | "quarantined":
            return _with(record.what, state, record)
        case "failed":
            # Someone archived it during the replay. That decision stands, but the failure counts.
            status: Status = state.status if state.status in ("archived", "quarantined") else "failed"
            return _with(status, state, record, tries=1)
        case _:  # A listener's own retry changes only the time and the detail.
            return _with(state.status, state, record)


def _with(status: Status, state: LetterState, record: Record, *, tries: int = 0) -> LetterState:
    return replace(
        state, status=status, replays=state.replays + tries, at=record.at, detail=record.detail,
        error_type=record.error_type or state.error_type, by=record.by,
    )  # fmt: skip
