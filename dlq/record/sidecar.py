"""The state of each letter, in an append-only file beside the letters, which are therefore never rewritten.

Each line is one record of something that happened, with a checksum. It is on disk before anything depends on it.
``states`` folds the records. A torn or damaged line is skipped without harm to its neighbours. In the worst case its
loss makes an event run again, which ends as "already stored".

The fleet's list (``listener/store/postgres/letters.py``) holds the same records, and each side copies what the other
lacks. So a record may arrive late, or twice. ``after`` makes both sides agree on whether a letter is resolved. For
that, each record has a later time than the state that its writer saw (``later_than``), even if clocks differ.

A person may edit a letter's event (``edited``). The record has the whole event, and the number of this version; 1 is
what the publisher sent. Versions change no status and are merged apart: the highest counts, of two with one number the
later. ``noted`` and ``assigned`` change no status either.

Two kinds of records belong to no letter. ``checked``: all letters resolved before it were compared with PostgreSQL
after the loss that its detail names. ``shipped``: how much of both files is in the fleet's list.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, assert_never
from zlib import crc32

import msgspec
from msgspec.structs import replace

from unlost.dlq.record.file import LineFile, read_lines
from unlost.dlq.record.fingerprint import plain
from unlost.dlq.record.letter import epoch_second, iso
from unlost.dlq.record.line import broken_seal, seal
from unlost.listener.core.shortened import shortened
from unlost.ops.kit.telemetry.mask import masked

MAX_EDITED_BYTES = 4 * 1024 * 1024
"""The largest event that an edit may make."""
MAX_RECORD_BYTES = 2 * MAX_EDITED_BYTES
"""Room for a version that a codec has encoded, which makes it a third longer."""
MESSAGE_LIMIT = 2_000
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

    @property
    def waits(self) -> bool:
        """Whether a replay would take the letter."""
        return self.status in WAITING


OPEN = LetterState()


class _Edit(msgspec.Struct):
    version: Annotated[int, msgspec.Meta(ge=2)]
    base: Annotated[int, msgspec.Meta(ge=1)]
    how: str
    event: msgspec.Raw


class _Line(msgspec.Struct, omit_defaults=True):
    v: Literal[1]
    letter_id: str
    what: What
    at: str
    detail: str = ""
    error_type: str | None = None
    by: str | None = None
    edit: _Edit | None = None
    followers: str | None = None


_lines = msgspec.json.Decoder(_Line)


class Sidecar:
    """Appends records. Any number of processes may append for the same letters."""

    def __init__(self, letters: Path) -> None:
        self._file = LineFile(sidecar_path(letters))

    def append(self, records: Sequence[Record]) -> None:
        """Write the records to disk, all or none. Raises ``DiskFull`` or ``FileError``."""
        self.append_lines([encode(record) for record in records])

    def append_lines(self, lines: Sequence[bytes]) -> None:
        """``append`` of records that are encoded."""
        self._file.append(lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Sidecars:
    """Sidecars of several files. A record is written beside the file from which its letter was read."""

    def __init__(self) -> None:
        self._open: dict[Path, Sidecar] = {}
        self._files_of: dict[str, set[Path]] = {}

    def expect(self, letter_id: str, file: Path) -> None:
        """Record in memory that a letter of this file is about to be run."""
        self._files_of.setdefault(letter_id, set()).add(file)

    def append_lines(self, letter_ids: Sequence[str], lines: Sequence[bytes]) -> None:
        """Write encoded records to disk, per file all or none. ``letter_ids``: which letter each is about.

        Raises ``DiskFull`` or ``FileError``.
        """
        of_file: dict[Path, list[bytes]] = {}
        for letter_id, line in zip(letter_ids, lines, strict=True):
            for file in self._files_of.get(letter_id, ()):
                of_file.setdefault(file, []).append(line)
        for file, some in of_file.items():
            self._open.setdefault(file, Sidecar(file)).append_lines(some)
        for letter_id in letter_ids:
            self._files_of.pop(letter_id, None)

    def close(self) -> None:
        """Close all files."""
        for one in self._open.values():
            one.close()


def sidecar_path(letters: Path) -> Path:
    """The path of the sidecar of a file of letters."""
    return letters.with_name(letters.name + ".state")


def states(letters: Path, *, part: int = 0, parts: int = 1) -> dict[str, LetterState]:
    """The states by letter id, of all letters with any record. With ``parts``, only one part of them."""
    path = sidecar_path(letters)
    records = (record for _, record in read_records(path) if record) if path.exists() else ()
    return fold(one for one in records if parts == 1 or crc32(one.letter_id.encode()) % parts == part)


def last_checked(letters: Path) -> str:
    """The loss after which the resolved letters were last compared with PostgreSQL. Empty if they never were."""
    path, loss = sidecar_path(letters), ""
    for _, record in read_records(path) if path.exists() else ():
        if record is not None and record.what == "checked":
            loss = record.detail
    return loss


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


def read_records(path: Path) -> Iterator[tuple[int, Record | None]]:
    """Each line's offset and its record, or None if the line is damaged."""
    for offset, line, length, _ in read_lines(path, max_line=MAX_RECORD_BYTES):
        yield offset, decode(line) if length <= MAX_RECORD_BYTES else None


def encode(record: Record) -> bytes:
    """The record on one line, without the newline."""
    line = _Line(
        1,
        plain(record.letter_id),
        record.what,
        iso(record.at),
        shortened(masked(plain(record.detail)), MESSAGE_LIMIT),
        None if record.error_type is None else plain(record.error_type),
        plain(record.by) or None,
        _edit_line(record.edit),
        record.followers,
    )
    return seal(line)


def _edit_line(made: Edit | None) -> _Edit | None:
    return None if made is None else _Edit(made.version, made.base, plain(made.how), msgspec.Raw(made.event))


def decode(line: bytes) -> Record | None:
    """The record of one line, or None if it is damaged."""
    if broken_seal(line):
        return None
    try:
        one = _lines.decode(line)
        edit = one.edit
        made = None if edit is None else Edit(edit.version, edit.base, edit.how, bytes(edit.event))
        at = epoch_second(one.at)
        return Record(one.letter_id, one.what, at, one.detail, one.error_type, one.by or "", made, one.followers)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
