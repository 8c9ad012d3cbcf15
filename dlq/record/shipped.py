"""How much of a dead-letter file and of its sidecar is in the fleet's list, recorded in the sidecar itself.

A position in a file is an offset and a digest of the bytes before it. If the file was replaced meanwhile, the digest
differs, and the file is compared with the list from its beginning.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

from unlost.dlq.record.file import read_lines, settled_size
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.sidecar import MAX_RECORD_BYTES, Sidecar, decode, sidecar_path

LOOKED_AT = 256


class Shipped(NamedTuple):
    """The offsets in both files, and PostgreSQL's last loss of rows when they were shipped."""

    letters: int = 0
    states: int = 0
    loss: str = ""


def note_shipped(sidecar: Sidecar, path: Path, shipped: Shipped, now: float) -> None:
    """Record this, durably."""
    marks = f"{shipped.letters}:{_digest(path, shipped.letters)} {shipped.states}:" + _digest(
        sidecar_path(path), shipped.states
    )
    sidecar.append([Record("", "shipped", now, f"{marks} {shipped.loss}".strip())])


def last_shipped(path: Path) -> Shipped:
    """Return what was recorded last, if the files are still the same."""
    detail = ""
    beside = sidecar_path(path)
    for _, line, length, _ in read_lines(beside, max_line=MAX_RECORD_BYTES) if beside.exists() else ():
        if b'"what":"shipped"' in line and length <= MAX_RECORD_BYTES and (record := decode(line)):
            detail = record.detail if record.what == "shipped" else detail  # an edited event may contain that text
    if not detail:
        return Shipped()
    letters, states, *loss = detail.split(" ")
    if not (_holds(path, letters) and _holds(beside, states)):
        return Shipped()
    return Shipped(int(letters.partition(":")[0]), int(states.partition(":")[0]), loss[0] if loss else "")


def size_of(path: Path) -> int:
    """Return how many bytes of a file are complete."""
    return settled_size(path) if path.exists() else 0


def _holds(path: Path, mark: str) -> bool:
    offset, _, digest = mark.partition(":")
    return (
        offset.isascii() and offset.isdigit() and int(offset) <= size_of(path) and _digest(path, int(offset)) == digest
    )


def _digest(path: Path, offset: int) -> str:
    if not offset:
        return "0"
    with path.open("rb") as file:
        file.seek(max(0, offset - LOOKED_AT))
        return hashlib.sha256(file.read(min(offset, LOOKED_AT))).hexdigest()[:16]
