"""Reads one source for as long as the listener lives. Uses no library: the source is a port.

However a session ends, another follows, after a delay that grows with each failure. The delay starts over only after a
session that stayed up and delivered. No answer of the source ends the listener. If the source resumes, reading
continues after the last event received.

Reading pauses while memory is full or the dead-letter file cannot be written. It also pauses while the database is
away, but only if the source resumes; otherwise, events without room are buried.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.cursor import goes_back
from unlost.listener.core.errors import Transient, UnlostError
from unlost.listener.core.facts import Facts, ReadingPaused, ReadingResumed, SourceConnected, SourceLost
from unlost.listener.core.oversized import Oversized
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.source import Batch, Loss, Receipt, Session, SessionOver, Source, SourceEnded, Taken
from unlost.listener.source.acknowledging import Acknowledger
from unlost.listener.source.border import GuardedOpening, border, loss_of
from unlost.listener.source.gaps import GapRecorder

LIVED_SECONDS = 1.0
AT_ONCE = 512
BYTES_AT_ONCE = 256 * 1024
"""How many messages, and how many bytes, are read before other tasks run. Batches of claims need not be smaller."""
PAUSE_SECONDS = 0.1
GIVE_BACK_SECONDS = 2.0
SPARE_FOR_OVERFLOW = 1_000
"""Events above the limit that may be on their way to the dead-letter file."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """For which group a source is read, where a group without a cursor starts, and the delays between sessions."""

    group: str
    start_from: Literal["oldest", "now"] = "oldest"
    backoff: FullJitter = field(default_factory=FullJitter)


class Reader:
    """Reads one source, and passes its messages to an inlet."""

    def __init__(
        self,
        source: Source,
        options: ReadingOptions,
        *,
        inlet: Inlet,
        cursors: GroupCursors,
        gaps: GapRecorder,
        must_pause: Callable[[], str],
        database_away: Callable[[], str],
        overflow: Callable[[bytes, str | None], None],
        facts: Facts,
        receipts: BatchQueue[Receipt],
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """``receipts``: the receipts of messages whose events are all settled."""
        self.source = source
        self._options = options
        self._inlet = inlet
        self._intake = inlet.intake
        self._cursors = cursors
        self._gaps = gaps
        self._must_pause = must_pause
        self._database_away = database_away
        self._overflow = overflow
        self._facts = facts
        self._acknowledger = Acknowledger(receipts, reading=lambda: inlet.watermark.reading, end=self._end)
        self._clock = clock
        self._rng = rng
        self._after: str | None = None
        self._session: Session | None = None
        self._gap: tuple[str, str] | None = None
        self._unplaced: deque[tuple[bytes, str | None]] = deque()
        self._again = False
        self._left = False
        """Whether this reader itself ended the session, to read again."""
        self._task: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        self._stopping = False
        self._ended_beside: Loss | None = None
        """Why the work beside reading ended the session, if it did."""
        self.messages = 0
        """How many messages it has taken."""
        self.paused = ""
        self.error = "not connected yet"
        self.last_loss: Loss | None = None
        self.took_for_good = False
        """Whether memory holds, or recently held, an event that the source will not send again."""
        self.last_message_at: float | None = None

    @property
    def connected(self) -> bool:
        """Whether the source is open."""
        return self._session is not None

    def read_again(self) -> None:
        """Start another session after the group's cursor as stored now; read nothing more from this one.

        A source that does not resume sends nothing again.
        """
        self._again = True
        self._inlet.read_again()
        self._acknowledger.clear()
        if self.source.resumes and self._session is not None:
            self._left = True
            self._session.abort()

    async def take_no_more(self) -> None:
        """Take nothing more. Leave the source, unless something is to be acknowledged yet.

        Otherwise the session stays open for that alone, and gives back what was not taken.
        """
        self._stopping = True
        session = self._session
        stays = session is not None and self.source.resumes and self._is_to_acknowledge
        if (task := self._taking if stays else self._task) is not None:
            task.cancel()
            await asyncio.wait({task})
        if stays and session is not None:
            await self._give_back(session)

    @property
    def _is_to_acknowledge(self) -> bool:
        return self._inlet.watermark.owes or not self._acknowledger.done

    async def _give_back(self, session: Session) -> None:
        """Give back what was not taken. If that fails, it goes back when the session is left."""
        try:
            with border("giving back what was not taken failed"):
                async with asyncio.timeout(GIVE_BACK_SECONDS):
                    await session.give_back()
        except SourceEnded as error:
            self._facts(SourceLost(self.source.name, error.loss.why, 0.0, traceback=error.loss.trace))

    async def acknowledge_rest(self, seconds: float) -> None:
        """Wait until what is settled is acknowledged, but no longer than this. Then ``run`` can be cancelled."""
        if self._task is None or self._task.done():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._acknowledger.until_done()

    async def run(self) -> None:
        """Read until cancelled."""
        self._task = asyncio.current_task()
        failures = 0
        while not self._stopping:
            started, messages = self._clock(), self.messages
            try:
                await self._read_once()
                continue  # the starting point was just recorded, and reading starts there at once
            except UnlostError as error:
                if isinstance(error, SessionOver):
                    self.error = str(error)
                    continue
                if self._left:  # we ended it, to read again: nothing is lost, and the source did nothing wrong
                    self._left = False
                    continue
                loss = error.loss if isinstance(error, SourceEnded) else Loss(str(error))
            self.last_loss, self.error = loss, loss.why
            lived = self._clock() - started >= LIVED_SECONDS and self.messages > messages
            failures = 1 if lived else failures + 1
            delay = max(loss.wait, self._options.backoff.delay(failures, self._rng()))
            self._facts(SourceLost(self.source.name, loss.why, delay, loss.code, loss.reason, loss.trace))
            await asyncio.sleep(delay)

    async def _read_once(self) -> None:
        """Run one session. Return early if the group's starting point was just recorded."""
        if self._again:
            self._again, self._after = False, None
        try:
            async with GuardedOpening(self.source, self._cursor_to_ask_for) as session:
                if await self._begins(session):
                    await self._read(session)
        finally:
            await self._take_the_rest()

    async def _cursor_to_ask_for(self) -> str | None:
        return self._after or await self._cursors.read(self.source.name, self._options.group)

    async def _begins(self, session: Session) -> bool:
        """Act on what the source announced. Return False if the group's starting point was just recorded."""
        opening = session.opening
        # A group without a cursor records where it starts, and connects again after that point.
        if opening.after is None and opening.oldest and opening.newest:
            begin = opening.oldest if self._options.start_from == "oldest" else opening.newest
            learnt = await self._cursors.start(self.source.name, self._options.group, begin)
            self._after = self._after or learnt
            return False
        if (dropped := opening.dropped) is not None:
            self._gaps.declare(
                self.source.name,
                "expired",
                after=dropped.after,
                resumed_at=dropped.resumed_at,
                missing=dropped.missing,
                once=dropped.once,
            )
        if opening.unknown and opening.newest:
            await self._go_back(opening.unknown, opening.newest)
        self._session, self.error = session, ""
        self._facts(SourceConnected(self.source.name, opening.after))
        return True

    async def _go_back(self, unknown: str, start: str) -> None:
        """Record a gap, and move the group's cursor away from a point that the source does not know."""
        if self._gap != (unknown, start):  # while PostgreSQL is away, the same gap appears again and again
            self._gap = unknown, start
            self._gaps.declare(self.source.name, "unknown_cursor", after=unknown, resumed_at=start)
        self.took_for_good = self._intake.count > 0  # events read before a gap are gone from the source
        name, group = self.source.name, self._options.group
        stored = await self._cursors.read(name, group)
        while stored is not None and goes_back(stored, unknown, start):
            # A cursor saved between reading and resetting is just as unknown to the source.
            stored = await self._cursors.reset(name, group, stored, start)
        self._after, self._gap = start, None

    async def _read(self, session: Session) -> None:
        beside = (
            asyncio.create_task(self._run_beside(session), name=f"beside {self.source.name}"),
            asyncio.create_task(self._acknowledger.run(session), name=f"acknowledge to {self.source.name}"),
        )
        taking = self._taking = asyncio.create_task(self._take_on(session), name=f"take from {self.source.name}")
        try:
            await asyncio.wait({taking})
            if self._stopping and taking.cancelled():
                await asyncio.Event().wait()  # until this is cancelled, what is settled can be acknowledged
            taking.result()
        except SourceEnded:
            if self._ended_beside is not None:
                raise SourceEnded(self._ended_beside) from None
            raise
        finally:
            for task in (taking, *beside):
                task.cancel()
            await asyncio.wait({taking, *beside})

    async def _take_on(self, session: Session) -> None:
        while True:
            await self._take(session)

    async def _run_beside(self, session: Session) -> None:
        """Do the session's other work. If that ends with an error, so does the session, and the error says why."""
        self._ended_beside = None
        try:
            with border("the work beside reading failed"):
                await session.run(self._is_paused)
        except UnlostError as error:
            self._end(session, loss_of(error, "the work beside reading failed"))

    def _end(self, session: Session, why: Loss) -> None:
        self._ended_beside = why
        session.abort()

    def _is_paused(self) -> bool:
        return bool(self.paused)

    async def _take(self, session: Session) -> None:
        """Take messages as far as there is room, then let the other stages run."""
        if why := self._reason_to_pause():
            await self._pause(why)
        events, size = self._intake.room
        with border("the source sent something invalid"):
            taken = await session.take(min(events, AT_ONCE), min(size, BYTES_AT_ONCE))
        if self._again and self.source.resumes:
            self._take_apart(taken)
            raise Transient("PostgreSQL is another store now: reading goes on after the cursor that it has")
        self.last_message_at = self._clock()
        if isinstance(taken, Oversized):
            self._place(taken)
        elif not self.source.resumes and self._intake.full and self._database_away():
            await self._let_overflow(taken)
        else:
            self._place(taken)
        # After a single message the source has no more, and waiting for it lets other tasks run.
        if isinstance(taken, Oversized) or len(taken.bodies) > 1:
            await asyncio.sleep(0)

    async def _let_overflow(self, batch: Batch) -> None:
        self._unplaced.extend(zip(batch.bodies, batch.cursors, strict=True))
        while self._unplaced:
            await self._intake.wait_for_room(spare=SPARE_FOR_OVERFLOW)
            self.messages += 1
            self._overflow(*self._unplaced.popleft())

    def _place(self, taken: Taken) -> None:
        resumes = self.source.resumes
        self.took_for_good = not resumes or (self.took_for_good and self._intake.count > 0)
        if isinstance(taken, Oversized):
            self.messages += 1
            self._inlet.receive_oversized(taken)
            return
        self.messages += len(taken.bodies)
        if (cursor := self._inlet.receive(taken)) is not None and resumes:
            self._after = cursor

    def _take_apart(self, taken: Taken) -> None:
        """Admit messages without cursors: reading will continue before them, but the source may drop them first."""
        if isinstance(taken, Oversized):
            self._inlet.receive_oversized(taken)
        else:
            self._inlet.receive_apart(taken)

    async def _take_the_rest(self) -> None:
        """Admit what arrived before the session ended. A source that does not resume does not send it again."""
        session, self._session = self._session, None
        if session is None or self.source.resumes:
            return
        if self._unplaced:
            bodies, cursors = zip(*self._unplaced, strict=True)
            self._place(Batch(bodies, cursors))
            self._unplaced.clear()
        while (rest := await self._taken_rest(session)) is not None:
            self._place(rest)

    async def _taken_rest(self, session: Session) -> Taken | None:
        """Take some of it. An error is stated, not raised: why the session ended counts more, above all a stop."""
        try:
            with border("what had arrived could not be read"):
                return await session.take_rest(AT_ONCE, BYTES_AT_ONCE)
        except SourceEnded as error:
            self._facts(SourceLost(self.source.name, error.loss.why, 0.0, traceback=error.loss.trace))
            return None

    def _reason_to_pause(self) -> str:
        if why := self._must_pause():
            return why
        away = self._database_away()
        if away and self.source.resumes:
            return away
        return "memory is full" if self._intake.full and not away else ""

    async def _pause(self, why: str) -> None:
        started = self._clock()
        self.paused = why
        self._facts(ReadingPaused(why))
        while self._reason_to_pause():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._intake.wait_for_room()
            if not self._intake.full:
                await asyncio.sleep(PAUSE_SECONDS if self._reason_to_pause() else 0)
        self.paused = ""
        self._facts(ReadingResumed(self._clock() - started))
