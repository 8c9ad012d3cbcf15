"""Resolved letters whose rows PostgreSQL may have lost: read from the file, and opened again.

Memory is bounded: of a large file the states are read in parts, each with a look through all letters.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from unlost.dlq.record.file import Located, read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.sidecar import Record, Sidecar, sidecar_path, states

STATES_AT_ONCE = 32 * 1024 * 1024
"""Bytes of the sidecar whose states are in memory at once."""
SLACK_SECONDS = 86_400.0
"""For clocks that differ: letters are noted as resolved by another one than PostgreSQL's."""
WHY = "PostgreSQL went back, and lost the row"


def resolved_since(path: Path, since: float) -> Iterator[Letter]:
    """The letters that were resolved after this epoch second, or shortly before it."""
    if not path.exists() or not sidecar_path(path).exists():
        return
    parts = 1 + sidecar_path(path).stat().st_size // STATES_AT_ONCE
    for part in range(parts):
        known = states(path, part=part, parts=parts)
        resolved = {one for one, state in known.items() if state.status == "resolved"}
        late = {one for one in resolved if (known[one].at or 0.0) >= since - SLACK_SECONDS}
        del known, resolved
        for found in read_letters(path) if late else ():
            if isinstance(found, Located) and found.letter.letter_id in late:
                yield found.letter


def reopen(sidecar: Sidecar, letter_ids: Sequence[str]) -> None:
    """Have these wait again, durably."""
    now = time.time()
    sidecar.append([Record(letter_id, "reopened", now, WHY) for letter_id in letter_ids])


def note_checked(sidecar: Sidecar, loss_id: str) -> None:
    """All that is resolved in this file was compared with PostgreSQL after this loss."""
    sidecar.append([Record("", "checked", time.time(), loss_id)])
