"""Runs letters again, and records the outcome of each.

A letter waits, is in progress, and ends as resolved or as failed again. After a failure it waits once more, or it is
quarantined after too many replays. If a listener is processing the event right now, the replay waits, and the letter
ends as already stored. A letter is marked resolved only after its event is a row. A kill between the two costs one more
run, which ends as "already stored". Letters of the same event run one after another, because the second must see how
the first ended. So do letters of the same key. If one fails, those behind it are not run: PostgreSQL would refuse them.

Letters are taken, run and recorded in batches, all three at the same time; nothing waits for a batch to fill. After a
stop, by threshold or by signal, no new letters are taken, and those in progress finish.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from unlost.dlq.record.event import edited_as, event_of
from unlost.dlq.record.fingerprint import normalised
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_state import LetterState, Record, later_than
from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, NowStored, Outcome, Rerun, StillBlocked
from unlost.dlq.replay.plan import ReplayLimits, ReplayReport
from unlost.dlq.store.entries import LetterEntry, size_of_entry
from unlost.dlq.store.port import TakenLetters, Unreachable
from unlost.listener.core.errors import Failure, InvalidEvent, Permanent, Transient
from unlost.listener.core.event import Event
from unlost.listener.core.shortened import first_and_last_line
from unlost.ops.kit.telemetry.counted import counted

Advance = Callable[[ReplayReport], None]
NOT_DECODED = "cannot be decoded: "
"""Begins the failure of a letter that a codec cannot read. It quotes nothing."""
TAKEN_AT_ONCE = 1_000
CAREFUL = 16
"""The most letters in progress if the replay stops after some failures: more would fail before that is noticed."""
MOST_BYTES = 32 * 1024 * 1024
"""The most bytes of events in progress. A larger event runs alone."""


def records_of(
    letter: Letter, state: LetterState, outcome: Outcome, *, now: float, max_replays: int, by: str = ""
) -> list[Record]:
    """The records to write for an outcome."""
    at = later_than(state, now)
    match outcome:
        case NowStored():
            how = "stored" if state.version == 1 else f"version {state.version} stored"
            return [Record(letter.letter_id, "resolved", at, how, by=by)]
        case StillBlocked():
            return []
        case AlreadyStored():
            return [Record(letter.letter_id, "resolved", at, "already stored", by=by)]
        case FailedAgain(attempts, reason):
            last = attempts[-1] if attempts else None
            why = f"{reason}: {last.message}" if last else reason
            failed = Record(letter.letter_id, "failed", at, why, last.error_type if last else None, by)
            tries = state.replays + 1
            if tries < max_replays:
                return [failed]
            given_up = f"failed {counted(tries, 'replay')}; last {why}"
            return [failed, Record(letter.letter_id, "quarantined", round(at + 1e-6, 6), given_up, by=by)]


class Replay:
    """One replay of letters that are taken from a store."""

    def __init__(
        self, rerun: Rerun, taking: TakenLetters, limits: ReplayLimits, advance: Advance, *, by: str = ""
    ) -> None:
        self.report = ReplayReport()
        self._rerun = rerun
        self._taking = taking
        self._limits = limits
        self._advance = advance
        self._by = by
        self._stop = asyncio.Event()
        self._behind: dict[str, deque[tuple[LetterEntry, Event]]] = {}
        """Letters in progress by their key or the id of their event, each with further letters of the same."""
        self._ended: list[tuple[LetterEntry, Outcome]] = []
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._failed = 0
        self._unrecorded = 0
        self._in_work = 0
        self._bytes = 0
        self._next_start = 0.0

    @property
    def _most(self) -> int:
        """How many letters may be in progress: more for a handler that turns out to be quick, fewer for a slow one."""
        return self._limits.concurrency or (CAREFUL if self._limits.max_failures else self._rerun.at_once)

    def interrupt(self) -> None:
        """Take no more letters. ``run`` returns when those in progress are done."""
        self.report.interrupted = True
        self._stop.set()
        self._room.set()

    async def run(self) -> ReplayReport:
        """Run the letters, the canaries first. Failures are in the report."""
        unable = asyncio.create_task(self._rerun.unable(), name="replay gives up")
        running = asyncio.create_task(self._run(), name="replay letters")
        try:
            await asyncio.wait({unable, running}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            else:
                unable.result()
        except (Transient, Permanent, Unreachable) as error:
            self.report.error = self.report.error or str(error)
        finally:
            for task in (unable, running):
                task.cancel()
            await asyncio.wait({unable, running})
        self.report.elsewhere, self.report.unreadable = self._taking.elsewhere, self._taking.unreadable
        return self.report

    async def _run(self) -> None:
        if self._limits.canary:
            await self._run_some(self._limits.canary)
            if self.report.done > self.report.resolved and not self.report.interrupted:
                self._end(f"of the first {self._limits.canary} letters, not all were stored")
        await self._run_some(None)

    async def _run_some(self, most: int | None) -> None:
        """Run ``most`` letters, or all; return once their outcomes are recorded."""
        feeding = asyncio.create_task(self._feed(most), name="take letters")
        feeding.add_done_callback(lambda _: self._changed.set())
        try:
            while not feeding.done() or self._in_work or self._ended:
                self._changed.clear()
                if self._ended:
                    await self._record()
                elif not feeding.done() or self._in_work:
                    await self._changed.wait()
            feeding.result()
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})

    # -- taking and starting --------------------------------------------------------------------

    async def _feed(self, most: int | None) -> None:
        """Keep letters in progress until none is left, ``most`` were started, or the replay stops."""
        while most != 0 and await self._has_room():
            wanted = min(TAKEN_AT_ONCE, self._most - self._in_work, TAKEN_AT_ONCE if most is None else most)
            if not (taken := await self._taking.take(wanted)):
                return
            for number, entry in enumerate(taken):
                if not await self._may_start():
                    await self._taking.free([one.letter.letter_id for one in taken[number:]])
                    return
                self._start(entry)
            most = None if most is None else most - len(taken)

    async def _has_room(self) -> bool:
        """Wait until letters may be taken: several at once, if many may be in progress. False if the replay stops.

        On a slow disk letters end sooner than outcomes are recorded. After a kill all that is not recorded runs again.
        """
        while not self._stop.is_set() and self._is_full():
            self._room.clear()
            await self._room.wait()
        return not self._stop.is_set()

    def _is_full(self) -> bool:
        """Whether no letters may be taken now: a handler that turns out to be slow has fewer than when it began."""
        full = self._most if self._most <= CAREFUL else self._most // 2
        return self._in_work >= full or self._bytes >= MOST_BYTES or self._unrecorded >= max(CAREFUL, self._most)

    async def _may_start(self) -> bool:
        """Wait for the next slot of the rate, or until the replay stops. Returns whether a letter may start."""
        if self._limits.rate:
            now = asyncio.get_running_loop().time()
            wait = self._next_start - now
            self._next_start = max(now, self._next_start) + 1 / self._limits.rate
            if wait > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait)
        return not self._stop.is_set()

    def _start(self, entry: LetterEntry) -> None:
        self._in_work += 1
        self._bytes += size_of_entry(entry)
        letter = entry.letter
        if letter.effect is not None:
            self._rerun.start_effect(letter.event_id or "", letter.effect, partial(self._end_one, entry))
            return
        if entry.unreadable:
            failure = Failure(time.time(), "receive", "permanent", "Unreadable", f"{NOT_DECODED}{entry.unreadable}")
            self._end_one(entry, FailedAgain((failure,), "invalid"))
            return
        try:
            event = event_of(entry.letter, max_bytes=self._limits.max_event_bytes, edited=entry.edited)
        except InvalidEvent as error:
            failure = Failure(time.time(), "receive", "permanent", "InvalidEvent", str(error))
            self._end_one(entry, FailedAgain((failure,), "invalid"))
            return
        name = entry.letter.order_key or event.event_id
        if name in self._behind:
            self._behind[name].append((entry, event))
            return
        self._behind[name] = deque()
        self._run_one(entry, event, name)

    def _run_one(self, entry: LetterEntry, event: Event, name: str) -> None:
        edited, key = edited_as(entry.letter, entry.state.version), entry.letter.order_key
        self._rerun.start(event, partial(self._end_event, entry, name), edited, order_key=key)

    def _end_event(self, entry: LetterEntry, name: str, outcome: Outcome) -> None:
        self._end_one(entry, outcome)
        behind = self._behind[name]
        if not behind:
            del self._behind[name]
        elif self._stop.is_set():
            del self._behind[name]
            for left, _ in behind:
                self._leave(left)
        elif entry.letter.order_key is not None and isinstance(outcome, FailedAgain):
            del self._behind[name]
            for left, _ in behind:
                self._end_one(left, StillBlocked())
        else:
            self._run_one(*behind.popleft(), name)

    def _end_one(self, entry: LetterEntry, outcome: Outcome) -> None:
        self._ended.append((entry, outcome))
        self._unrecorded += 1
        self._failed += isinstance(outcome, FailedAgain)
        if self._limits.max_failures and self._failed >= self._limits.max_failures:
            self._end(f"{counted(self._failed, 'letter')} failed, and the limit is {self._limits.max_failures:,}")
        self._leave(entry)

    def _leave(self, entry: LetterEntry) -> None:
        self._in_work -= 1
        self._bytes -= size_of_entry(entry)
        self._changed.set()
        self._room.set()

    # -- recording ------------------------------------------------------------------------------

    async def _record(self) -> None:
        """Record all known outcomes with one call."""
        ended, self._ended = self._ended, []
        now = time.time()
        written = [
            records_of(entry.letter, entry.state, outcome, now=now, max_replays=self._limits.max_replays, by=self._by)
            for entry, outcome in ended
        ]
        blocked = [entry.letter.letter_id for entry, outcome in ended if isinstance(outcome, StillBlocked)]
        try:
            await self._taking.record([record for some in written for record in some])
            if blocked:
                await self._taking.free(blocked)
        except BaseException:
            self._stop.set()
            raise
        self._unrecorded -= len(ended)
        self._room.set()
        for (_, outcome), records in zip(ended, written, strict=True):
            self._count(outcome, records)
        self._advance(self.report)

    def _count(self, outcome: Outcome, records: list[Record]) -> None:
        report = self.report
        match outcome:
            case NowStored():
                report.stored += 1
            case AlreadyStored():
                report.already_stored += 1
            case StillBlocked():
                report.behind += 1
            case FailedAgain():
                report.failed += 1
                report.quarantined += records[-1].what == "quarantined"
                report.failures[normalised(first_and_last_line(records[0].detail))] += 1

    def _end(self, why: str) -> None:
        self.report.stopped = self.report.stopped or why
        self._stop.set()
        self._room.set()
