"""The damaged entries found so far, for health, metrics and the log. They are reported and never sent."""

from collections.abc import Sequence

import structlog

from unlost.ops.kit.telemetry.counted import counted
from unlost.producer.journal.port import Entry

MOST_NAMED = 1_000


class DamagedEntries:
    """Damaged entries since the start. Each is logged once. Also called from threads."""

    def __init__(self) -> None:
        self._met: dict[int, str] = {}
        self._more = 0

    @property
    def count(self) -> int:
        """How many entries."""
        return len(self._met) + self._more

    def meet(self, entries: Sequence[Entry]) -> None:
        """Record damaged entries."""
        for entry in entries:
            if entry.number in self._met:
                continue
            if len(self._met) >= MOST_NAMED:
                self._more = 1  # a lower bound: further ones are not counted
                return
            self._met[entry.number] = entry.event_id
            structlog.get_logger().error("journal_entry_damaged", number=entry.number, event_id=entry.event_id)

    def remark(self) -> tuple[str, ...]:
        """The remark for health."""
        if not self._met:
            return ()
        number, event_id = next(iter(self._met.items()))
        entries = counted(self.count, "damaged entry is", "damaged entries are")
        what = f"{entries} not sent, such as number {number} (event {event_id[:80]})"
        return (f"journal: {what}; check the disk, and publish those events again with ?redeliver=true",)
