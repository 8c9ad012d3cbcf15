"""The stream of events in Unlost's envelope, over WebSocket.

A source resumes only if the setting says so, or if its handshake is that of Unlost's own producer. Only then is
``after`` added to the address. With ``auto`` the first handshake goes without it, so the address of a foreign source is
not changed. Our own producer also gets reports of what the group has settled, and sends many events in one message
(``lines.py``).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Batch, Loss, Opened, Receipt, SourceEnded, Taken
from unlost.listener.source.feed.contact import Contact
from unlost.listener.source.feed.gaps import Declare
from unlost.listener.source.feed.signs import Signs
from unlost.listener.source.stream.envelope import split
from unlost.listener.source.stream.handshake import Handshake, handshake_of, with_cursor
from unlost.listener.source.stream.lines import ACCEPT, LINES, batch_of, parted
from unlost.listener.source.websocket.connection import Open, WebSocketOptions
from unlost.listener.source.websocket.link import HandshakeRefused, WebSocketLink, linked
from unlost.listener.source.websocket.messages import open_messages

PAUSED_SECONDS = 1.0
"""If nobody took messages for so long, those that come next may have waited."""


class ReportsCursors(Protocol):
    """Reports to the producer over an open link."""

    async def run(self, link: WebSocketLink) -> None:
        """Report until cancelled, or until the connection ends."""
        ...


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The settings of a stream."""

    url: str
    name: str
    resumes: Literal["auto", "yes", "no"] = "auto"
    max_event: int = 1024 * 1024
    websocket: WebSocketOptions = field(default_factory=WebSocketOptions)


class StreamSource:
    """A ``Source``."""

    shared = False
    partitioned = False

    def __init__(
        self,
        options: StreamOptions,
        *,
        declare: Declare,
        open_connection: Open | None = None,
        reports: ReportsCursors | None = None,
    ) -> None:
        self.name = options.name
        self.resumes = options.resumes == "yes"
        """See ``Source``."""
        self.contact = Contact(options.name, declare)
        self.numbering = None
        """Its events are not numbered, or it resumes."""
        self._options = options
        self._is_ours = False
        """Whether the last handshake was that of our producer. Only then is it asked for lines."""
        self._open_connection = open_connection or open_messages
        self._reports = reports
        self._prove_again = False

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator["StreamSession"]:
        """See ``Source``."""
        after = await cursor() if self.resumes and not self._prove_again else None
        url = with_cursor(self._options.url, after)
        # If the session ends in the middle of a message, only a source that resumes sends the rest again.
        asks = self._is_ours and self.resumes and not self._prove_again
        websocket = replace(self._options.websocket, offers={ACCEPT: LINES} if asks else {})
        async with contextlib.AsyncExitStack() as stack:
            try:
                link = await stack.enter_async_context(linked(self._open_connection, url, websocket))
            except HandshakeRefused as error:
                # The address may lead elsewhere now, to a source that always refuses ``after``.
                self._prove_again = self._prove_again or error.status is not None
                raise
            handshake = handshake_of(link.response.headers) if link.response else Handshake()
            self._prove_again = False
            self._is_ours = handshake.is_ours
            if self._options.resumes == "auto":
                self.resumes = handshake.is_ours
            self._check_size(handshake)
            reports = self._reports if handshake.is_ours else None
            kind = LineSession if asks and handshake.is_ours and handshake.lines else StreamSession
            session = kind(link, self._opening(after, handshake), reports, ours=handshake.is_ours)
            self.contact.open(session.heard_at, missed=not self.resumes)
            try:
                yield session
            finally:
                self.contact.close(session.heard_at())

    def _opening(self, after: str | None, handshake: Handshake) -> Opened:
        if not self.resumes:
            return Opened(after)
        return Opened(after, handshake.oldest, handshake.cursor, handshake.gap or None)

    def _check_size(self, handshake: Handshake) -> None:
        if handshake.max_event > self._options.max_event:  # only the beginning of such an event would be kept
            raise SourceEnded(Loss(
                f"the producer accepts events of up to {handshake.max_event:,} bytes, and this listener reads at most "
                f"{self._options.max_event:,}: set its MAX_EVENT_BYTES to {handshake.max_event} or more"
            ))  # fmt: skip


class StreamSession:
    """An open stream."""

    def __init__(self, link: WebSocketLink, opening: Opened, reports: ReportsCursors | None, *, ours: bool) -> None:
        """``ours``: it is the stream of Unlost's own producer."""
        self.opening = opening
        self._ours = ours
        self._link = link
        self._reports = reports
        self._signs = Signs(asyncio.get_running_loop().time())
        self._took_at = self._signs.last_at
        self.abort = link.abort
        """See ``Session``."""

    def heard_at(self) -> float:
        """Return when the source showed its last sign of life, by the event loop's clock."""
        return max(self._signs.last_at, self._link.answered_at)

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        clock, signs = asyncio.get_running_loop().time, self._signs
        if (began := clock()) > self._took_at + PAUSED_SECONDS:
            signs.pause(self._took_at)
            signs.resume(began)
        taken = await self._link.take(most, size)
        self._took_at = clock()
        signs.heard(self._took_at)
        return self._taken(taken, most)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``."""
        rest = await self._link.take_rest(most, size)
        return self._taken(rest, most) if rest else None

    async def run(self, paused: Callable[[], bool]) -> None:
        """See ``Session``. Keeps the connection alive, and reports to our own producer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.keep_alive(paused), name="source keepalive")
            if self._reports is not None:
                tasks.create_task(self._reports.run(self._link), name="report to the source")

    async def settled(self, receipts: Sequence[Receipt]) -> None:
        """See ``Session``. Nothing is acknowledged: its cursors say what is settled."""

    async def give_back(self) -> None:
        """See ``Session``. All listeners receive all messages."""

    def _taken(self, frames: Sequence[bytes] | Oversized, most: int) -> Taken:  # noqa: ARG002
        return frames if isinstance(frames, Oversized) else split(frames, ours=self._ours)


class LineSession(StreamSession):
    """The open stream of our own producer, which sends many events in one message."""

    _rest: Batch | None = None
    """Events for which there was no room yet."""

    async def take(self, most: int, size: int) -> Taken:
        """See ``Session``."""
        return self._next(most) or await super().take(most, size)

    async def take_rest(self, most: int, size: int) -> Taken | None:
        """See ``Session``."""
        return self._next(most) or await super().take_rest(most, size)

    def _next(self, most: int) -> Batch | None:
        if self._rest is None:
            return None
        taken, self._rest = parted(self._rest, most)
        return taken

    def _taken(self, frames: Sequence[bytes] | Oversized, most: int) -> Taken:
        if isinstance(frames, Oversized):
            return frames
        taken, self._rest = parted(batch_of(frames), most)
        return taken
