"""Reads a feed over WebSocket: connects as the feed says, and passes its events on in our envelope.

Messages are read as soon as they arrive, until ``HELD_BYTES`` wait. So heartbeats and pongs of the application's own
protocol are sent while nobody takes events. When a connection is replaced, the new one is opened before the old one is
left; events that arrive on both are duplicates. An acknowledgement is sent on the connection of its message; if that
has ended, the feed sends the message again.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from unlost.listener.core.errors import UnlostError
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.ports.source import Opened as Opened
from unlost.listener.source.feed.connection import FeedConnection, FeedLink
from unlost.listener.source.feed.contact import Contact
from unlost.listener.source.feed.counting import Counting
from unlost.listener.source.feed.gaps import Declare, Hole
from unlost.listener.source.feed.hook import Again, Feed, FeedStopped, Opening
from unlost.listener.source.feed.losses import EventsRefused, failed_code, stopped
from unlost.listener.source.feed.session import FeedSession
from unlost.listener.source.websocket.connection import Open, WebSocketOptions
from unlost.listener.source.websocket.link import HandshakeRefused, linked
from unlost.listener.source.websocket.messages import open_messages

REFUSALS = 3
"""After this many refusals of a cursor in a row, reading continues without it."""
CURSOR_REFUSED = (400, 410, 416, 422)


@dataclass(slots=True)
class Counts:
    """Counts of what a feed has sent."""

    events: int = 0
    control: int = 0
    refused: int = 0
    oversized: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0
    """Messages with events that cannot be acknowledged: they lack what the acknowledgement must contain."""
    connections: int = 0


class FeedSource:
    """A ``Source``."""

    partitioned = False

    def __init__(
        self,
        name: str,
        feed: Feed,
        *,
        declare: Declare,
        open_connection: Open = open_messages,
        websocket: WebSocketOptions | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.feed = feed
        self.counts = Counts()
        self.counting = Counting(self.hole, apart=feed.numbers_each_connection, rereads=feed.resumes)
        self.declare = declare
        self._open_connection = open_connection
        self._websocket = websocket or WebSocketOptions()
        self._now = now
        self.contact = Contact(name, declare, now=now)
        self._refusals = 0

    @property
    def numbering(self) -> "FeedSource | None":
        """Its events may be numbered; None if their numbers show nothing over a restart."""
        return None if self.feed.numbers_each_process else self

    @property
    def put(self) -> int:
        """See ``Numbering``."""
        return self.counts.events + self.counts.refused + self.counts.oversized

    def numbers(self) -> Mapping[str, int] | None:
        """See ``Numbering``."""
        return self.counting.numbers()

    def follow(self, numbers: Mapping[str, int], *, missed: bool) -> bool:
        """See ``Numbering``."""
        return self.counting.follow(numbers, missed=missed)

    @property
    def resumes(self) -> bool:
        """See ``Source``."""
        return self.feed.resumes

    @property
    def key(self) -> str:
        """The path of the key of its events; empty if the feed declares none."""
        return self.feed.key

    @property
    def shared(self) -> bool:
        """See ``Source``."""
        return self.feed.shared

    @property
    def follows_cursor(self) -> bool:
        """Whether a connection continues after a cursor."""
        return self.feed.resumes and not self.feed.shared

    @contextlib.asynccontextmanager
    async def open(self, cursor: Callable[[], Awaitable[str | None]]) -> AsyncIterator[FeedSession]:
        """See ``Source``."""
        after = await cursor() if self.follows_cursor else None
        session = FeedSession(self)
        try:
            try:
                after = await self._begin(session, after)
            except SourceEnded as error:
                if not session.has_read(error.loss):
                    raise
            session.opening = Opened(after)
            yield session
        finally:
            self.contact.close(session.last_sign)
            try:
                await session.close()
            finally:
                self.counting.end_all()

    async def _begin(self, session: FeedSession, after: str | None) -> str | None:
        given_up = after if self._refusals >= REFUSALS else None
        after = None if given_up is not None else after
        try:
            await session.connect(after)
        except (HandshakeRefused, EventsRefused) as error:
            if after is not None:
                self._refusals = self._refusals + 1 if error.status in CURSOR_REFUSED else 0
            raise
        self._refusals = 0
        if given_up is not None:
            self.declare(self.name, "refused", after=given_up)
        self.contact.open(lambda: session.last_sign, missed=self._misses)
        return after

    @property
    def max_bytes(self) -> int:
        """How large an event may be."""
        return self._websocket.max_frame

    def hole(self, hole: Hole) -> None:
        """Declare numbers that were skipped."""
        after, resumed_at = hole.named(hole.first - 1), hole.named(hole.last + 1)
        self.declare(self.name, "sequence", after=after, resumed_at=resumed_at, missing=hole.missing)

    @property
    def _misses(self) -> bool:
        """Whether the feed repeats nothing, and its numbers do not show what is missing."""
        return not (self.feed.resumes or self.feed.recovered) and self.numbers() is None

    def moved_late(self, since: float, new: FeedConnection) -> None:
        """Declare the time from then on, before a move, unless the feed repeats it or numbers show what is missing."""
        feed = self.feed
        repeats = feed.resumes and (feed.shared or feed.acknowledges or new.continues)
        if not repeats and not feed.recovered and self.numbers() is None:
            self.contact.disconnected(since)

    def resumed_late(self, asked: str, cursor: str) -> None:
        """Declare that the feed continued after what it was asked for: it has removed events, or lost them."""
        self.declare(self.name, "refused", after=asked, resumed_at=cursor)

    def missed(self) -> None:
        """Declare that a feed could not continue where it was."""
        self.declare(self.name, "refused")

    def silent_for(self, seconds: float) -> None:
        """Declare a silence that lasts too long."""
        self.declare(self.name, "silence", began_at=self._now() - seconds)

    async def dial(
        self,
        after: str | None,
        again: Again | None,
        stack: contextlib.AsyncExitStack,
        made: Callable[[FeedConnection], None],
    ) -> FeedConnection:
        """Open one connection, and let the feed subscribe. ``again``: the feed's wish, maybe with an address.

        ``made`` is called with the connection before the feed subscribes.
        """
        within = self.feed.opened_within
        try:
            async with asyncio.timeout(within) as limit:
                connection = await self._dial(after, again, stack, made)
        except FeedStopped as error:
            raise SourceEnded(stopped(str(error))) from error
        except SourceEnded as error:
            raise self.sorted(error) from error
        except TimeoutError as error:
            if not limit.expired():
                raise failed_code("opening", error) from error
            raise SourceEnded(Loss(f"the feed was not open after {within:g} s")) from None
        except UnlostError as error:
            raise SourceEnded(Loss(str(error))) from error
        except Exception as error:  # a feed may be a user's own code
            raise failed_code("opening", error) from error
        self.counts.connections += 1
        return connection

    async def _dial(
        self,
        after: str | None,
        again: Again | None,
        stack: contextlib.AsyncExitStack,
        made: Callable[[FeedConnection], None],
    ) -> FeedConnection:
        opening = await self.feed.opening(after)
        if again is not None and again.url is not None:
            opening = moved(opening, again.url)
        try:
            link = await stack.enter_async_context(self._linked(opening))
            elsewhere = again is not None and again.url is not None
            connection = FeedConnection(link, after, overlaps=self.feed.overlaps, elsewhere=elsewhere)
        except SourceEnded as error:
            error.loss = error.loss._replace(why=f"{host_of(opening.url)}: {error.loss.why}")
            raise
        made(connection)
        await self.feed.opened(connection)
        return connection

    def _linked(self, opening: Opening) -> AbstractAsyncContextManager[FeedLink]:
        options = self._options(opening)
        if opening.url.startswith(("http://", "https://")):
            from unlost.listener.source.feed.events import event_link  # its library is slow to import

            return event_link(opening.url, options)
        special = opening.compression or opening.binary
        return linked(open_messages if special else self._open_connection, opening.url, options)

    def sorted(self, error: SourceEnded) -> SourceEnded:
        """Give a loss a long pause if retrying soon is pointless."""
        if error.loss.code in self.feed.stop_on:
            return SourceEnded(stopped(error.loss.why)._replace(code=error.loss.code, reason=error.loss.reason))
        return error

    def _options(self, opening: Opening) -> WebSocketOptions:
        return replace(
            self._websocket,
            headers={**self._websocket.headers, **opening.headers},
            subprotocols=tuple(opening.subprotocols),
            compression=opening.compression,
            binary=opening.binary,
            proxy=opening.proxy,
            tls=tls_of(opening),
            ca=self.feed.trust[0],
            cert=self.feed.trust[1],
        )


def host_of(url: str) -> str:
    """Return where an address leads. Its path and its query may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def moved(opening: Opening, url: str) -> Opening:
    """Return how to connect to an address that the feed sent. Headers go to the same host only."""
    old, new = urlsplit(opening.url), urlsplit(url)
    unsafe = old.scheme == "wss" and new.scheme == "ws"
    if new.scheme not in ("ws", "wss") or not new.hostname or unsafe:
        raise SourceEnded(Loss("the feed asked for a new connection, at an address that is not wss://"))
    headers = opening.headers if new.hostname == old.hostname else {}
    return Opening(
        **{name: getattr(opening, name) for name in Opening.__struct_fields__} | {"url": url, "headers": headers}
    )


def tls_of(opening: Opening) -> ssl.SSLContext | None:
    """Make the TLS settings, if the feed has any of its own."""
    if opening.ca is None and opening.cert is None:
        return None
    try:
        context = ssl.create_default_context(cafile=opening.ca)
        if opening.cert is not None:
            context.load_cert_chain(opening.cert, opening.key)
    except (OSError, ssl.SSLError) as error:
        raise SourceEnded(Loss(f"the files of [wire] cannot be used: {error}")) from None
    return context
