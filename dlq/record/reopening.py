"""Finds resolved letters whose rows PostgreSQL may have lost, and reopens them.

Memory is bounded: for a large sidecar the states are read in parts, with one pass over all letters for each part.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from unlost.dlq.record.file import Located, read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_state import LetterState, Record, later_than
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states

STATES_AT_ONCE = 32 * 1024 * 1024
"""How many bytes of the sidecar are read into states at a time."""
SLACK_SECONDS = 86_400.0
"""Allows for clock differences: the times of states are not from PostgreSQL's clock."""
WHY = "PostgreSQL went back, and lost the row"


def resolved_since(path: Path, since: float) -> Iterator[tuple[Letter, LetterState]]:
    """The letters that were resolved after this epoch second, or shortly before it."""
    if not path.exists() or not sidecar_path(path).exists():
        return
    parts = 1 + sidecar_path(path).stat().st_size // STATES_AT_ONCE
    for part in range(parts):
        known = states(path, part=part, parts=parts)
        resolved = {one for one, state in known.items() if state.status == "resolved"}
        late = {one: known[one] for one in resolved if (known[one].at or 0.0) >= since - SLACK_SECONDS}
        del known, resolved
        for found in read_letters(path) if late else ():
            if isinstance(found, Located) and found.letter.letter_id in late:
                yield found.letter, late[found.letter.letter_id]


def reopen(sidecar: Sidecar, letters: Iterable[tuple[str, LetterState]], by: str) -> None:
    """Reopen these letters, durably."""
    now = time.time()
    sidecar.append([Record(one, "reopened", later_than(state, now), WHY, by=by) for one, state in letters])


def note_checked(sidecar: Sidecar, loss_id: str) -> None:
    """Record that all resolved letters of this file were compared with PostgreSQL after this loss."""
    sidecar.append([Record("", "checked", time.time(), loss_id)])
