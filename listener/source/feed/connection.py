"""One connection of a feed: messages read while it was opened, and those after."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from unlost.listener.core.oversized import Oversized
from unlost.listener.ports.source import Loss, SourceEnded
from unlost.listener.source.feed.counting import Count
from unlost.listener.source.feed.signs import Signs

AT_ONCE = 512
BYTES_AT_ONCE = 256 * 1024
MOST_EARLY = 10_000
MOST_EARLY_BYTES = 8 * 1024 * 1024
"""Messages that may arrive before a feed has answered what it was sent first."""
SEND_SECONDS = 10.0
"""How long a feed may take no message that is sent to it."""


class FeedLink(Protocol):
    """A connection over WebSocket or with server-sent events. Methods raise ``SourceEnded`` at its end."""

    answered_at: float
    """When it last showed to be alive without a message, by the event loop's clock."""

    async def take(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return the next messages, at least one."""
        ...

    async def take_rest(self, most: int, size: int) -> Sequence[bytes] | Oversized:
        """Return messages that had arrived at the end."""
        ...

    async def send(self, message: str) -> None:
        """Send a message."""
        ...

    def abort(self) -> None:
        """End it at once."""
        ...

    async def answers(self) -> bool:
        """Return whether the other end still serves this connection now; wait for its answer."""
        ...

    async def keep_alive(self, paused: Callable[[], bool]) -> None:
        """End it if it is dead, until cancelled."""
        ...


class FeedConnection:
    """A ``NewConnection`` while the feed subscribes, and messages after that."""

    def __init__(self, link: FeedLink, after: str | None, *, overlaps: bool = False, elsewhere: bool = False) -> None:
        """``elsewhere``: the feed has sent its address, so nobody knows whether the address asks for the cursor."""
        self.link = link
        self.after = after
        self.continues = after is not None and not elsewhere
        """Whether the feed sends all that came after the cursor."""
        self.expected = after if overlaps and not elsewhere else None
        """The cursor of an event that the feed sends again before any later one. None: none, or it has come."""
        self.unsettled = 0
        """How many messages wait to be acknowledged."""
        self.delivered = False
        """Whether an event came by it."""
        self.ended_by: Loss | None = None
        """Why this side ended it."""
        self.count = Count()
        self.signs = Signs(asyncio.get_running_loop().time())
        self._early_bytes = 0
        self._early: deque[bytes | Oversized] = deque()
        self._kept: deque[bytes | Oversized] = deque()

    @property
    def heard_at(self) -> float:
        """When it showed its last sign of life, by the event loop's clock."""
        return max(self.signs.last_at, self.link.answered_at)

    async def send(self, text: str) -> None:
        """See ``NewConnection``.

        A feed that sends and never reads would hold up a reply, and an acknowledgement, for ever.
        """
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.link.send(text)
        except TimeoutError:
            self.link.abort()
            raise SourceEnded(Loss(f"the feed took no message for {SEND_SECONDS:g} s")) from None
        except SourceEnded:
            raise
        except Exception as error:  # a feed may be a user's own code, and its message no text
            raise SourceEnded(Loss(f"a message to the feed cannot be sent: {type(error).__name__}: {error}")) from error

    async def receive(self) -> bytes:
        """See ``NewConnection``."""
        while not self._early:
            if len(self._kept) > MOST_EARLY or self._early_bytes > MOST_EARLY_BYTES:
                sent = f"{len(self._kept):,} messages of {self._early_bytes:,} bytes"
                raise SourceEnded(Loss(f"the feed sent {sent}, and no answer among them"))
            taken = await self.link.take(AT_ONCE, BYTES_AT_ONCE)
            self._early.extend([taken] if isinstance(taken, Oversized) else taken)
        message = self._early.popleft()
        self._kept.append(message)
        self._early_bytes += len(message.head if isinstance(message, Oversized) else message)
        return message.head if isinstance(message, Oversized) else message

    async def take(self) -> Sequence[bytes | Oversized]:
        """Return the next messages: first those that were read already."""
        if early := self._read_already():
            return early
        found = await self.link.take(AT_ONCE, BYTES_AT_ONCE)
        return [found] if isinstance(found, Oversized) else found

    async def take_rest(self) -> Sequence[bytes | Oversized]:
        """Return messages that had arrived when the connection ended; nothing once all were taken."""
        if early := self._read_already():
            return early
        found = await self.link.take_rest(AT_ONCE, BYTES_AT_ONCE)
        return [found] if isinstance(found, Oversized) else found

    def _read_already(self) -> Sequence[bytes | Oversized]:
        found = [*self._kept, *self._early]
        self._kept.clear()
        self._early.clear()
        return found
