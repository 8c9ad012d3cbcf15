"""Runs letters again, and records the outcome of each.

A letter waits, is in progress, and ends as resolved or as failed again. After a failure it waits once more, or it is
quarantined after too many replays. If a listener is processing the event right now, the replay waits, and the letter
ends as already stored. A letter is marked resolved only after its event is a row. A kill between the two costs one more
run, which ends as "already stored". Letters of the same event run one after another, because the second must see how
the first ended. Outcomes are written in groups with one fsync each; nothing waits for a group to fill. After a stop, by
threshold or by signal, no new letters are taken, and those in progress finish.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from weakref import WeakValueDictionary

from unlost.dlq.record.event import event_of
from unlost.dlq.record.fingerprint import normalised
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.sidecar import LetterState, Record, Sidecars
from unlost.dlq.replay.outcome import AlreadyStored, FailedAgain, Outcome, Rerun, Stored
from unlost.dlq.replay.plan import Limits, Report
from unlost.listener.core.errors import Failure, InvalidEvent, Permanent, Transient

Item = tuple[Path, Letter, LetterState]
Advance = Callable[[Report], None]


def records_of(letter: Letter, state: LetterState, outcome: Outcome, *, at: float, max_replays: int) -> list[Record]:
    """The records to write for an outcome."""
    match outcome:
        case Stored():
            return [Record(letter.letter_id, "resolved", at, "stored")]
        case AlreadyStored():
            return [Record(letter.letter_id, "resolved", at, "already stored")]
        case FailedAgain(attempts, reason):
            last = attempts[-1] if attempts else None
            why = f"{reason}: {last.message}" if last else reason
            failed = Record(letter.letter_id, "failed", at, why, last.error_type if last else None)
            tries = state.replays + 1
            if tries < max_replays:
                return [failed]
            return [failed, Record(letter.letter_id, "quarantined", at, f"failed {tries} replays; last {why}")]


class Replay:
    """One replay over letters that were chosen before."""

    def __init__(self, rerun: Rerun, sidecars: Sidecars, limits: Limits, advance: Advance) -> None:
        self.report = Report()
        self._rerun = rerun
        self._sidecars = sidecars
        self._limits = limits
        self._advance = advance
        self._stop = asyncio.Event()
        self._event_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._to_write: asyncio.Queue[tuple[list[Record], asyncio.Future[None]]] = asyncio.Queue()
        self._next_start = 0.0

    def interrupt(self) -> None:
        """Take no more letters. ``run`` returns when those in progress are done."""
        self.report.interrupted = True
        self._stop.set()

    async def run(self, letters: Iterator[Item]) -> Report:
        """Run the letters, the canaries first. Failures are in the report."""
        writer = asyncio.create_task(self._write(), name="replay states")
        try:
            if self._limits.canary:
                await self._run_all(islice(letters, self._limits.canary))
                if self.report.done > self.report.resolved and not self.report.interrupted:
                    self._end(f"of the first {self._limits.canary} letters, not all were stored")
            await self._run_all(letters)
        finally:
            writer.cancel()
            await asyncio.wait({writer})
        return self.report

    async def _run_all(self, letters: Iterator[Item]) -> None:
        """Keep up to ``concurrency`` letters in progress, until there are none left or the replay stops."""
        running: set[asyncio.Task[None]] = set()
        try:
            while not self._stop.is_set():
                # In a thread, because reading skips resolved letters, which may be most of a large file.
                item = await asyncio.to_thread(next, letters, None)
                if item is None or not await self._may_start():
                    break
                running.add(asyncio.create_task(self._one(*item), name=f"replay {item[1].letter_id}"))
                if len(running) >= self._limits.concurrency:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    _raise_first(done)
            while running:
                done, running = await asyncio.wait(running)
                _raise_first(done)
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

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

    async def _one(self, file: Path, letter: Letter, state: LetterState) -> None:
        self._sidecars.expect(letter.letter_id, file)
        try:
            event = event_of(letter, max_bytes=self._limits.max_event_bytes)
        except InvalidEvent as error:
            failure = Failure(time.time(), "receive", "permanent", "InvalidEvent", str(error))
            await self._settle(letter, state, FailedAgain((failure,), "invalid"))
            return
        lock = self._event_locks.setdefault(event.event_id, asyncio.Lock())
        async with lock:
            if self._stop.is_set():
                return
            try:
                outcome = await self._rerun.run(event)
            except (Transient, Permanent) as error:
                self.report.error = self.report.error or str(error)
                self._stop.set()
                return
            await self._settle(letter, state, outcome)

    async def _settle(self, letter: Letter, state: LetterState, outcome: Outcome) -> None:
        records = records_of(letter, state, outcome, at=time.time(), max_replays=self._limits.max_replays)
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._to_write.put_nowait((records, written))
        await written
        self._count(outcome, records)
        self._advance(self.report)

    def _count(self, outcome: Outcome, records: list[Record]) -> None:
        report = self.report
        match outcome:
            case Stored():
                report.stored += 1
            case AlreadyStored():
                report.already_stored += 1
            case FailedAgain():
                report.failed += 1
                report.quarantined += records[-1].what == "quarantined"
                report.failures[normalised(records[0].detail)] += 1
                if self._limits.max_failures and report.failed >= self._limits.max_failures:
                    self._end(f"{report.failed} letters failed, and {self._limits.max_failures} are the limit")

    def _end(self, why: str) -> None:
        self.report.stopped = self.report.stopped or why
        self._stop.set()

    async def _write(self) -> None:
        """Write everything that waits with one fsync, again and again."""
        while True:
            waiting = [await self._to_write.get()]
            while not self._to_write.empty():
                waiting.append(self._to_write.get_nowait())
            records = [record for some, _ in waiting for record in some]
            try:
                await asyncio.to_thread(self._sidecars.append, records)
            except Exception as error:  # noqa: BLE001 - the border of a task: its waiters get the error
                self._stop.set()
                for _, written in waiting:
                    if not written.done():
                        written.set_exception(error)
                continue
            for _, written in waiting:
                if not written.done():
                    written.set_result(None)


def _raise_first(done: set[asyncio.Task[None]]) -> None:
    for task in done:
        task.result()
