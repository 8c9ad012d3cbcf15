"""Reads the source as long as the listener lives.

The reconnect loop is our own. However a connection ends, another follows, after a delay that grows with each failure.
The delay starts again only after a connection that lived and delivered. No answer of the source ends the listener. If
the source can resume, reading continues after the last event received. Only the handshake of Unlost's own producer
proves that it can, or the setting says so. Only then is ``after`` added to the address. With ``auto`` the first
handshake goes without it, so the address of a foreign source stays as it was given.

Reading pauses while memory is full or the dead-letter file cannot be written. It also pauses while the database is
away, but only if the source can resume; otherwise, events without room are buried. The keepalive is our own too, since
during a pause no answer to a ping is read.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence

from websockets.exceptions import ConnectionClosed

from unlost.listener.core.cursor import goes_back
from unlost.listener.core.errors import Transient, UnlostError
from unlost.listener.core.facts import Facts, ReadingPaused, ReadingResumed, SourceConnected, SourceGap, SourceLost
from unlost.listener.core.oversized import Oversized
from unlost.listener.pipeline.intake import Intake
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.source.connection import Connection, Open, SourceOptions
from unlost.listener.source.handshake import (
    ABNORMAL,
    Handshake,
    Loss,
    SourceRefused,
    handshake_of,
    loss_of,
    with_cursor,
)
from unlost.listener.source.report import CursorReporter
from unlost.listener.source.websocket import open_messages

LIVED_SECONDS = 1.0
AT_ONCE = 512
BYTES_AT_ONCE = 256 * 1024
"""Frames, and their bytes, that are read before other tasks run. Under load this makes a batch of claims no smaller."""
PAUSE_SECONDS = 0.1
SPARE_FOR_OVERFLOW = 1_000
"""Events above the limit that may be on their way to the dead-letter file."""


class Reader:
    """Reads one source, and passes frames to the intake."""

    def __init__(
        self,
        options: SourceOptions,
        *,
        intake: Intake,
        cursors: GroupCursors,
        must_pause: Callable[[], str],
        database_away: Callable[[], str],
        overflow: Callable[[bytes], None],
        facts: Facts,
        open_connection: Open | None = None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
        reporter: CursorReporter | None = None,
    ) -> None:
        self._options = options
        self._reporter = reporter
        self._intake = intake
        self._cursors = cursors
        self._must_pause = must_pause
        self._database_away = database_away
        self._overflow = overflow
        self._facts = facts
        self._open = open_connection or open_messages
        self._clock = clock
        self._dice = dice
        self._after: str | None = None
        self._connection: Connection | None = None
        self._resumes = options.resumes == "yes"
        self._prove_again = False
        self._gap: tuple[str, str] | None = None
        self._is_ours = False
        """The connected source proved in its handshake that it is our producer."""
        self._silent = False
        self._unplaced: deque[bytes] = deque()
        self._again = False
        self._frames = 0
        self.paused = ""
        self.error = "not connected yet"
        self.last_loss: Loss | None = None
        self.took_for_good = False
        """Whether memory holds, or lately held, an event that nobody will send again."""
        self.last_frame_at: float | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def resumes(self) -> bool:
        """Whether events that are missed now can be read later."""
        return self._resumes

    def read_again(self) -> None:
        """Continue after the group's cursor as stored now, on another connection; read nothing more from this one.

        A source that cannot resume sends nothing again.
        """
        self._again = True
        if self._resumes and self._connection is not None:
            self._connection.transport.abort()

    async def run(self) -> None:
        """Read until cancelled."""
        failures = 0
        while True:
            started, frames = self._clock(), self._frames
            try:
                await self._session()
                continue  # the starting point was just recorded, and reading starts there at once
            except (SourceRefused, ConnectionClosed, UnlostError) as error:
                loss = self._lost(error)
            lived = self._clock() - started >= LIVED_SECONDS and self._frames > frames
            failures = 1 if lived else failures + 1
            delay = max(loss.wait, self._options.backoff.delay(failures, self._dice()))
            self._facts(SourceLost(self._options.name, loss.why, delay, loss.code, loss.reason))
            await asyncio.sleep(delay)

    def _lost(self, error: Exception) -> Loss:
        loss = loss_of(error)
        if self._silent:
            loss = Loss(f"the source was silent for {self._options.keepalive:g} s and answered no ping", ABNORMAL)
        if isinstance(error, SourceRefused) and error.status is not None:
            self._prove_again = True  # the address may lead elsewhere now, to a source that always refuses ``after``
        self.last_loss, self.error, self._silent = loss, loss.why, False
        return loss

    async def _session(self) -> None:
        """Run one connection. Return early if the group's starting point was just recorded."""
        if self._again:
            self._again, self._after = False, None
        after = await self._cursor_to_ask_for()
        try:
            async with self._opened(with_cursor(self._options.url, after)) as connection:
                if await self._begins(connection, after):
                    await self._read(connection)
        finally:
            await self._take_the_rest()

    async def _begins(self, connection: Connection, after: str | None) -> bool:
        """Act on the handshake. Return False if the group's starting point was just recorded."""
        handshake = handshake_of(connection.response.headers) if connection.response else Handshake()
        self._prove_again, self._is_ours = False, handshake.is_ours
        if self._options.resumes == "auto":
            self._resumes = handshake.is_ours
        if handshake.max_event > self._options.max_event:  # of such an event only the beginning would be kept
            raise Transient(
                f"the producer accepts events of up to {handshake.max_event:,} bytes, and this listener reads at most "
                f"{self._options.max_event:,}: set its MAX_EVENT_BYTES to {handshake.max_event} or more"
            )
        # A group without a cursor records where it starts, and connects again after that point.
        if after is None and self._resumes and handshake.oldest and handshake.cursor:
            begin = handshake.oldest if self._options.start_from == "oldest" else handshake.cursor
            learnt = await self._cursors.start(self._options.name, self._options.group, begin)
            self._after = self._after or learnt
            return False
        if handshake.gap and handshake.cursor and self._resumes:
            await self._go_back(handshake.gap, handshake.cursor)
        self._connection, self.error = connection, ""
        self._facts(SourceConnected(self._options.name, after))
        return True

    async def _cursor_to_ask_for(self) -> str | None:
        if not self._resumes or self._prove_again:
            return None
        return self._after or await self._cursors.read(self._options.name, self._options.group)

    @contextlib.asynccontextmanager
    async def _opened(self, url: str) -> AsyncIterator[Connection]:
        """Open a connection. A hostile handshake makes the library raise nearly anything; none of it ends us."""
        async with contextlib.AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._open(url, self._options))
            except Exception as error:
                raise SourceRefused(error) from error
            yield connection

    async def _go_back(self, unknown: str, start: str) -> None:
        """Record a gap, and move the group's cursor away from a point that the source does not know."""
        if self._gap != (unknown, start):  # while PostgreSQL is away, the same gap appears again and again
            self._gap = unknown, start
            self._facts(SourceGap(unknown, start))
        self.took_for_good = self._intake.count > 0  # events read before a gap are gone from the source
        name, group = self._options.name, self._options.group
        stored = await self._cursors.read(name, group)
        while stored is not None and goes_back(stored, unknown, start):
            # A cursor saved between reading and resetting is just as unknown to the source.
            stored = await self._cursors.reset(name, group, stored, start)
        self._after, self._gap = start, None

    async def _read(self, connection: Connection) -> None:
        beside = [asyncio.create_task(self._keep_alive(connection), name="source keepalive")]
        if self._is_ours and self._reporter is not None:
            beside.append(asyncio.create_task(self._reporter.run(connection), name="report to the source"))
        try:
            while True:
                await self._take_frames(connection)
        finally:
            for task in beside:
                task.cancel()

    async def _take_frames(self, connection: Connection) -> None:
        """Take frames as far as there is room, then let the other stages run."""
        if why := self._reason_to_pause():
            await self._pause(why)
        events, size = self._intake.room
        frames = await connection.take(min(events, AT_ONCE), min(size, BYTES_AT_ONCE))
        if self._again and self._resumes:
            self._take_apart(frames)
            raise Transient("PostgreSQL is another store now: reading goes on after the cursor that it has")
        self.last_frame_at = self._clock()
        if not isinstance(frames, Oversized) and not self._resumes and self._intake.full and self._database_away():
            self._unplaced.extend(frames)
            while self._unplaced:
                await self._intake.wait_for_room(spare=SPARE_FOR_OVERFLOW)
                self._frames += 1
                self._overflow(self._unplaced.popleft())
        else:
            self._place(frames)
        # After a single frame the connection has nothing more, and waiting for it lets others run.
        if isinstance(frames, Oversized) or len(frames) > 1:
            await asyncio.sleep(0)

    def _place(self, frames: Sequence[bytes] | Oversized) -> None:
        self.took_for_good = not self._resumes or (self.took_for_good and self._intake.count > 0)
        if isinstance(frames, Oversized):
            self._frames += 1
            self._intake.receive_oversized(frames)
            return
        self._frames += len(frames)
        if (cursor := self._intake.receive(frames)) is not None and self._resumes:
            self._after = cursor

    def _take_apart(self, frames: Sequence[bytes] | Oversized) -> None:
        """Admit frames without cursors: reading continues before them, but the source may drop them until then."""
        if isinstance(frames, Oversized):
            self._intake.receive_oversized(frames)
        else:
            self._intake.receive_apart(frames)

    async def _take_the_rest(self) -> None:
        """Admit what arrived before the connection ended. A source that cannot resume does not send it again."""
        connection, self._connection = self._connection, None
        if connection is None or self._resumes:
            return
        if self._unplaced:
            self._place(list(self._unplaced))
            self._unplaced.clear()
        while frames := await connection.take_rest(AT_ONCE, BYTES_AT_ONCE):
            self._place(frames)

    def _reason_to_pause(self) -> str:
        if why := self._must_pause():
            return why
        away = self._database_away()
        if away and self._resumes:
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

    async def _keep_alive(self, connection: Connection) -> None:
        """End a silent connection that answers no ping. During a pause nothing is read, so silence proves nothing."""
        while True:
            received = connection.received
            await asyncio.sleep(self._options.keepalive)
            if self.paused or connection.received != received:
                continue
            try:
                async with asyncio.timeout(self._options.keepalive):
                    await (await connection.ping())
            except TimeoutError:
                if not self.paused and connection.received == received:
                    self._silent = True
                    connection.transport.abort()
            except ConnectionClosed:
                return
