"""Moves a journal to another place. It may be killed anywhere: the same command continues where it ended.

    1  the new journal is made, marked as arriving
    2  entries are copied, while producers may still write
    3  the old journal is marked as moved: from here on no producer can write to it
    4  what was written meanwhile is copied
    5  the new journal takes over groups and timelines, and loses its mark: from here on producers can write to it

Between 3 and 5 no producer can write anywhere. Each step looks at what both journals have, not at what an earlier run
may have done.
"""

import time
from typing import Protocol

from unlost.producer.journal.moves import History, Mark, MovableJournal
from unlost.producer.journal.port import JournalError

LOOK_SECONDS = 0.1


class Progress(Protocol):
    """Shows how far a move is."""

    def step(self, what: str) -> None:
        """A step begins."""
        ...

    def copied(self, number: int, newest: int) -> None:
        """Everything up to ``number`` is copied."""
        ...


class MigrationRefused(JournalError):
    """These two journals cannot be moved into each other."""


def migrate(source: MovableJournal, target: MovableJournal, progress: Progress, *, insist: bool = False) -> int:
    """Move ``source`` to ``target``. Returns how many entries were copied by this run.

    ``insist``: also if the source has moved elsewhere before, and that journal is lost.
    """
    there, here = source.history(), target.history()
    if there is None:
        raise MigrationRefused(f"{source.where} has no journal: no producer has made one there yet")
    if _is_done(there, here):
        progress.step(f"{source.where} has moved to {target.where} already")
        return 0
    _check(source, there, target, here, insist=insist)
    copied = Copying(source, target, progress)
    copied.make_target(there, here)
    copied.copy()
    progress.step(f"{source.where} is being marked as moved")
    source.mark(Mark("moved", target.where))
    copied.copy_until_still()
    progress.step(f"{target.where} is being opened for producers")
    target.finish(copied.there)
    copied.require_nothing_late()
    return copied.count


def _is_done(there: History, here: History | None) -> bool:
    return (
        here is not None
        and here.identity == there.identity
        and here.mark is None
        and there.mark is not None
        and there.mark.state == "moved"
        and here.newest >= there.newest
    )


def _check(
    source: MovableJournal, there: History, target: MovableJournal, here: History | None, *, insist: bool
) -> None:
    """Raise ``MigrationRefused`` unless the target is empty, or has a part of the source's history."""
    arrives = here is not None and here.mark == Mark("arriving", source.where)
    continues = arrives and there.mark is not None and there.mark.other == target.where
    if there.mark is not None and there.mark.state == "arriving":
        raise MigrationRefused(
            f"{source.where} is not complete itself: it is being copied from {there.mark.other}; "
            "run that unlost journal migrate again, to its end"
        )
    if here is not None and here.identity != there.identity:
        raise MigrationRefused(f"{target.where} has another journal already: name a place that has none")
    if there.mark is not None and not continues and not insist:
        raise MigrationRefused(
            f"{source.where} has moved to {there.mark.other} already, and lacks whatever was published there since; "
            "move that one. If it is lost, or never took an event: --insist"
        )
    if here is None:
        return
    if here.mark is None:
        raise MigrationRefused(f"{target.where} is in use: it did not move to {source.where}")
    if here.newest > there.newest or not _is_part(source, there, target, here):
        raise MigrationRefused(
            f"{target.where} has entries that {source.where} lacks: one of the two was restored from a backup"
        )


def _is_part(source: MovableJournal, there: History, target: MovableJournal, here: History) -> bool:
    """Whether the target's newest entry is the source's entry with that number, as far as both can be read."""
    last = here.newest - 1
    if here.newest <= max(here.before, there.before):
        return True
    ours, theirs = (
        [(one.number, one.event_id, one.digest) for one in rows[:1]]
        for rows in (target.rows(last, here), source.rows(last, there))
    )
    return ours == theirs


class Copying:
    """Copies one journal to the end of another."""

    def __init__(self, source: MovableJournal, target: MovableJournal, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._mark = Mark("arriving", source.where)
        self._after = 0
        self.there: History
        """The source as it was last seen."""
        self.count = 0

    def make_target(self, there: History, here: History | None) -> None:
        """Make the target, or continue with what it has."""
        self.there = there
        start = self._start_of(there)
        if here is None or here.newest < start:
            self._progress.step(f"{self._target.where} is being made")
            self._target.begin(there.identity, start, self._mark)
            self._after = start
            return
        if here.mark != self._mark:
            self._target.mark(self._mark)
        self._after = here.newest

    def copy(self) -> None:
        """Copy everything that the source has now."""
        self.there = self._look()
        while self._after < self.there.newest:
            found = self._source.rows(self._after, self.there)
            rows = [row for row in found if row.number <= self.there.newest]  # of which the timelines are known
            if not rows:  # retention has taken them meanwhile
                self._jump()
                continue
            self._target.place(rows, self.there)
            self._after = rows[-1].number
            self.count += len(rows)
            self._progress.copied(self._after, self.there.newest)

    def _jump(self) -> None:
        """Begin anew above what retention has taken from the source meanwhile: numbers have no gap."""
        before = self.there.before
        self.there = self._look()
        start = self._start_of(self.there)
        if start > self._after:
            self._target.begin(self.there.identity, start, self._mark)
            self._after = start
        elif self.there.before == before or self.there.before <= self._after:  # otherwise their ids can be read now
            raise JournalError(f"{self._source.where} lacks entries above number {self._after:,}")

    def _start_of(self, there: History) -> int:
        return there.before_ids if self._target.keeps_ids else there.before

    def copy_until_still(self) -> None:
        """Copy what was stored before the mark. A server may store what it had received already a little later."""
        until = time.monotonic() + self._source.settle
        while True:
            self.copy()
            if time.monotonic() >= until:
                return
            time.sleep(LOOK_SECONDS)

    def require_nothing_late(self) -> None:
        """Raise ``JournalError`` if the source has grown since: nothing else would ever mention those entries."""
        copied, newest = self.there.newest, self._look().newest
        if newest > copied:
            raise JournalError(
                f"{self._source.where} has entries {copied + 1:,} to {newest:,}, which {self._target.where} lacks: its "
                "server stored them long after the mark. The new journal is complete without them and may be used; "
                "publish these events again, with the same ids"
            )

    def _look(self) -> History:
        found = self._source.history()
        if found is None or found.identity != self.there.identity:
            raise JournalError(f"{self._source.where} is another journal than before")
        return found
