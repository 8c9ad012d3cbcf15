"""Reads the source for as long as the listener lives.

The loop is our own: a connection that ends, however it ends, is followed by another, after a delay that
grows with each failure and starts anew only when a connection lived and delivered. Nothing the source
answers ends the listener. Where the source can resume, reading goes on after the last event received.

Reading pauses when memory is full, the dead-letter file cannot be written, or the database is away (then
only where the source can resume; where it cannot, what finds no room is buried). The keepalive is our own
as well, since during a pause no answer to a ping can be seen.
"""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from listener.backoff import Backoff
from listener.cursor import goes_back
from listener.errors import Transient, UnlostError
from listener.facts import Facts, ReadingPaused, ReadingResumed, SourceConnected, SourceGap, SourceLost
from listener.pipeline.intake import Intake
from listener.source.stream import Stream
from listener.store.port import GroupCursors

TOO_BIG = 1009
LARGEST_FRAME = 1024**3
LIVED_SECONDS = 1.0
AT_ONCE = 512
BYTES_AT_ONCE = 256 * 1024
"""Frames, and their bytes, that are read without letting other tasks run: a claim's batch under load is no smaller."""
PAUSE_SECONDS = 0.1
SPARE_FOR_OVERFLOW = 1_000
"""Events beyond the bound that may be on their way to the dead-letter file."""


class Response(Protocol):
    """What a source answered to the handshake."""

    headers: Mapping[str, str]


class Connection(Protocol):
    """What is used of a ``Stream``."""

    @property
    def response(self) -> Response | None:
        """The handshake's answer."""
        ...

    @property
    def transport(self) -> asyncio.Transport:
        """What lies below it."""
        ...

    async def take(self, most: int, size: int) -> Sequence[bytes]:
        """The next messages, one at least, and no more than were asked for; ``ConnectionClosed`` at the end."""
        ...

    async def ping(self) -> Awaitable[float]:
        """Ask for a sign of life, to be awaited."""
        ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What the settings say of the source."""

    url: str
    name: str
    group: str
    start_from: Literal["oldest", "now"] = "oldest"
    resumes: Literal["auto", "yes", "no"] = "auto"
    headers: dict[str, str] = field(default_factory=dict)
    max_frame: int = 1024 * 1024
    open_timeout: float = 10.0
    keepalive: float = 20.0
    backoff: Backoff = field(default_factory=Backoff)


class Reader:
    """See the module's head."""

    def __init__(
        self,
        options: SourceOptions,
        *,
        intake: Intake,
        cursors: GroupCursors,
        must_pause: Callable[[], str],
        database_away: Callable[[], bool],
        overflow: Callable[[bytes], None],
        facts: Facts,
        open_connection: "Open | None" = None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._options = options
        self._intake = intake
        self._cursors = cursors
        self._must_pause = must_pause
        self._database_away = database_away
        self._overflow = overflow
        self._facts = facts
        self._open = open_connection or open_stream
        self._clock = clock
        self._dice = dice
        self._after: str | None = None
        self._max_frame = options.max_frame
        self._connection: Connection | None = None
        self._resumes = options.resumes == "yes"
        self._frames = 0
        self.paused = ""
        self.trouble = "not connected yet"
        self.last_frame_at: float | None = None

    @property
    def connected(self) -> bool:
        """Whether a connection stands."""
        return self._connection is not None

    @property
    def resumes(self) -> bool:
        """Whether what is missed while away can be read later."""
        return self._resumes

    async def run(self) -> None:
        """Read until cancelled."""
        failures = 0
        while True:
            started, frames = self._clock(), self._frames
            try:
                again = await self._session()
                why, delay = "closed by the source", 0.0
            except (OSError, WebSocketException, UnlostError, TimeoutError) as error:
                again, why, delay = False, _why(error), _retry_after(error)
                self._widen_for_giant(error)
            self._connection = None
            if again:
                continue
            lived = self._clock() - started >= LIVED_SECONDS and self._frames > frames
            failures = 1 if lived else failures + 1
            delay = max(delay, self._options.backoff.delay(failures, self._dice()))
            self.trouble = why
            self._facts(SourceLost(self._options.name, why, delay))
            await asyncio.sleep(delay)

    async def _session(self) -> bool:
        """One connection. True where the group's starting point was just learnt, and reading starts there at once."""
        after = self._after or await self._cursors.read(self._options.name, self._options.group)
        url = _with_cursor(self._options.url, after)
        async with self._open(url, self._options, self._max_frame) as connection:
            headers = connection.response.headers if connection.response else {}
            oldest, start = headers.get("unlost-oldest"), headers.get("unlost-cursor")
            if after is None and oldest and start:
                begin = oldest if self._options.start_from == "oldest" else start
                self._after = await self._cursors.start(self._options.name, self._options.group, begin)
                return True
            if (gap := headers.get("unlost-gap")) and start:
                await self._go_back(gap, start)
                self._facts(SourceGap(gap, start))
            if self._options.resumes == "auto" and oldest:
                self._resumes = True
            self._connection, self.trouble = connection, ""
            self._facts(SourceConnected(self._options.name, after))
            await self._read(connection)
        return False

    async def _go_back(self, unknown: str, start: str) -> None:
        """The source does not know what was asked for: neither is the group to ask for it again."""
        name, group = self._options.name, self._options.group
        stored = await self._cursors.read(name, group)
        if stored is not None and goes_back(stored, unknown, start):
            await self._cursors.reset(name, group, stored, start)
        self._after = start

    async def _read(self, connection: Connection) -> None:
        keepalive = asyncio.create_task(self._keep_alive(connection), name="source keepalive")
        try:
            while True:
                await self._take_frames(connection)
        except ConnectionClosed as closed:
            # What we sent, not what it ended with: few sources answer our close before they hang up.
            if closed.sent is not None and closed.sent.code == TOO_BIG:
                raise Transient(f"a frame is larger than {self._max_frame:,} bytes") from None
        finally:
            keepalive.cancel()

    async def _take_frames(self, connection: Connection) -> None:
        """A run of frames, as far as there is room, then a breath for the other stages."""
        if why := self._reason_to_pause():
            await self._pause(why)
        events, size = self._intake.room
        frames = await connection.take(min(events, AT_ONCE), min(size, BYTES_AT_ONCE))
        self._frames += len(frames)
        self.last_frame_at = self._clock()
        if self._intake.full and self._database_away() and not self._resumes:
            for frame in frames:
                await self._intake.wait_for_room(spare=SPARE_FOR_OVERFLOW)
                self._overflow(frame)
        elif (cursor := self._intake.receive(frames)) is not None:
            self._after = cursor
            self._resumes = self._resumes or self._options.resumes == "auto"
        if len(frames) > 1:  # after one alone, the connection has nothing more, and waiting for it lets others run
            await asyncio.sleep(0)

    def _reason_to_pause(self) -> str:
        if trouble := self._must_pause():
            return trouble
        away = self._database_away()
        if away and self._resumes:
            return "PostgreSQL is away"
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
        """End a connection on which nothing comes and no ping is answered; during a pause nothing can be told."""
        while True:
            frames = self._frames
            await asyncio.sleep(self._options.keepalive)
            if self.paused or self._frames != frames:
                continue
            try:
                async with asyncio.timeout(self._options.keepalive):
                    await (await connection.ping())
            except TimeoutError:
                if not self.paused and self._frames == frames:
                    connection.transport.abort()
            except ConnectionClosed:
                return

    def _widen_for_giant(self, error: Exception) -> None:
        """The same giant would end every connection: let it in once, so that it can be buried."""
        if "larger than" in str(error) and self._max_frame < LARGEST_FRAME:
            self._max_frame *= 16


Open = Callable[[str, SourceOptions, int], AbstractAsyncContextManager[Connection]]
"""Opens one connection to an address, for frames of up to so many bytes."""


def open_stream(url: str, options: SourceOptions, max_frame: int) -> AbstractAsyncContextManager[Connection]:
    """One connection to this address, for frames of up to so many bytes."""
    opening = connect(
        url,
        create_connection=cast("Any", functools.partial(Stream, largest=max_frame)),
        additional_headers=options.headers,
        compression=None,
        max_size=max_frame,
        open_timeout=options.open_timeout,
        ping_interval=None,
        close_timeout=2.0,
        proxy=None,
    )
    return cast("AbstractAsyncContextManager[Connection]", opening)


def _with_cursor(url: str, after: str | None) -> str:
    if after is None:
        return url
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "after"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("after", after)])))


def source_name(url: str) -> str:
    """The name under which a source's cursor is kept: its address without credentials and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path or "/", "", ""))


def _why(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"the source answered HTTP {error.response.status_code}"
    return str(error) or type(error).__name__


def _retry_after(error: Exception) -> float:
    if isinstance(error, InvalidStatus):
        with contextlib.suppress(ValueError):
            return min(600.0, float(error.response.headers.get("Retry-After", "0")))
    return 0.0
