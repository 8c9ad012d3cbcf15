"""Reports of listeners: how far their group has settled the stream, as saved in PostgreSQL.

A report is a text message from a stream client: ``{"group": NAME, "database": ID, "settled": CURSOR}``, at most about
once a second. Groups of one name on two databases are two groups here, since each must read everything: ``NAME@ID``.
Without a cursor, the group has settled nothing yet. The last report counts, also if it is lower: a group whose
PostgreSQL was restored reads again. Any other message from a client is ignored.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from unlost.producer.journal.groups import MOST, Group, RetentionLimits, kept_for
from unlost.producer.journal.timelines import Timelines

LONGEST_CURSOR = 512


class CursorReport(msgspec.Struct, frozen=True):
    """A listener's report."""

    group: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
    settled: Annotated[str, msgspec.Meta(max_length=LONGEST_CURSOR)] | None = None
    database: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}\Z")] | None = None

    @property
    def name(self) -> str:
        """The name under which the journal keeps the group."""
        return self.group if self.database is None else f"{self.group}@{self.database}"


_report = msgspec.json.Decoder(CursorReport)


def report_of(message: str | bytes) -> CursorReport | None:
    """The report in this message, or None."""
    try:
        return _report.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class TooManyGroups(Exception):
    """No further group can be added."""

    def __init__(self) -> None:
        super().__init__(f"{MOST} groups are known already; forget one: unlost journal forget GROUP")


class Groups:
    """All known groups, in memory. New reports are written to the journal periodically."""

    def __init__(self, timelines: Timelines, known: Iterable[Group]) -> None:
        self._timelines = timelines
        self._known = {one.name: one for one in known}
        self._reported: set[str] = set()

    def report(self, report: CursorReport, *, bounds: tuple[int, int], at: float) -> None:
        """Record a report. ``bounds``: see ``Journal``. Raises ``TooManyGroups`` for a new group beyond the limit."""
        known = self._known.get(report.name)
        if (known is None or known.forgotten) and sum(not one.forgotten for one in self._known.values()) >= MOST:
            raise TooManyGroups
        before_oldest, newest = bounds
        settled = None if report.settled is None else self._timelines.shared_up_to(report.settled, newest)
        if settled is None:  # the cursor names an unknown history, so the number recorded before stays
            settled = before_oldest if known is None or known.forgotten else known.settled
        self._known[report.name] = Group(report.name, settled, at)
        self._reported.add(report.name)

    def reported(self) -> list[Group]:
        """The groups that reported since the last call, for the journal to store."""
        names, self._reported = self._reported, set()
        return [self._known[name] for name in names]

    def learn(self, remembered: Sequence[Group]) -> None:
        """Load the groups that the journal stores. Reports that arrived meanwhile are newer, and stay."""
        newer = {name: self._known[name] for name in self._reported}
        self._known = {one.name: one for one in remembered} | newer

    @property
    def all(self) -> list[Group]:
        """All groups, including forgotten ones."""
        return sorted(self._known.values(), key=lambda one: one.name)

    @property
    def slowest(self) -> Group | None:
        """The group that has settled least, of those that are not forgotten."""
        return min(
            (one for one in self._known.values() if not one.forgotten), key=lambda one: one.settled, default=None
        )

    @property
    def keep(self) -> RetentionLimits:
        """The limits for retention."""
        return kept_for(list(self._known.values()))
