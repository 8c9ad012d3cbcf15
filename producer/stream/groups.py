"""What listeners report: up to where their group has settled the stream, as it stands saved in PostgreSQL.

A report is a text message of a stream client: ``{"group": NAME, "settled": CURSOR}``, about once a second at most;
without a cursor, the group has settled nothing yet. The last report counts, also where it is lower: a group whose
PostgreSQL was set back reads again. Whatever else a client sends is ignored.
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

import msgspec

from unlost.producer.journal.groups import MOST, Group, Keep, kept_for
from unlost.producer.journal.timelines import Timelines

LONGEST_CURSOR = 512


class Report(msgspec.Struct, frozen=True):
    """A listener's."""

    group: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
    settled: Annotated[str, msgspec.Meta(max_length=LONGEST_CURSOR)] | None = None


_report = msgspec.json.Decoder(Report)


def report_of(message: str | bytes) -> Report | None:
    """None for whatever is no report."""
    try:
        return _report.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


class TooManyGroups(Exception):
    """No further group can be known."""

    def __init__(self) -> None:
        super().__init__(f"{MOST} groups are known already; forget one: unlost journal forget GROUP")


class Groups:
    """All that are known, in memory; what was reported since is to be remembered by the journal now and then."""

    def __init__(self, timelines: Timelines, known: Iterable[Group]) -> None:
        self._timelines = timelines
        self._known = {one.name: one for one in known}
        self._reported: set[str] = set()

    def report(self, report: Report, *, bounds: tuple[int, int], at: float) -> None:
        """A group says how far it is. ``bounds``: see ``Journal``. ``TooManyGroups`` for a new one beyond the limit."""
        known = self._known.get(report.group)
        if (known is None or known.forgotten) and sum(not one.forgotten for one in self._known.values()) >= MOST:
            raise TooManyGroups
        before_oldest, newest = bounds
        settled = None if report.settled is None else self._timelines.shared_up_to(report.settled, newest)
        if settled is None:  # of a history that is not known here: what it knew of the group stands
            settled = before_oldest if known is None or known.forgotten else known.settled
        self._known[report.group] = Group(report.group, settled, at)
        self._reported.add(report.group)

    def reported(self) -> list[Group]:
        """What the journal is to remember; each once."""
        names, self._reported = self._reported, set()
        return [self._known[name] for name in names]

    def learn(self, remembered: Sequence[Group]) -> None:
        """What the journal remembers. What was reported meanwhile is newer."""
        newer = {name: self._known[name] for name in self._reported}
        self._known = {one.name: one for one in remembered} | newer

    @property
    def all(self) -> list[Group]:
        """Those that were forgotten, too."""
        return sorted(self._known.values(), key=lambda one: one.name)

    @property
    def slowest(self) -> Group | None:
        """Of those that count."""
        return min(
            (one for one in self._known.values() if not one.forgotten), key=lambda one: one.settled, default=None
        )

    @property
    def keep(self) -> Keep:
        """What retention must leave for them."""
        return kept_for(list(self._known.values()))
