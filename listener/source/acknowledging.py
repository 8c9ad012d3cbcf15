"""Gives receipts back to a source once the events of their messages are settled."""

import asyncio
from collections.abc import Callable

from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.ports.source import Loss, Receipt, Session, SourceEnded
from unlost.listener.source.border import border

AT_ONCE = 1_000
PAUSE_SECONDS = 0.1


class Acknowledger:
    """Acknowledges what is settled, in one session after another. The next gets those that one could not get."""

    def __init__(
        self, receipts: BatchQueue[Receipt], *, reading: Callable[[], int], end: Callable[[Session, Loss], None]
    ) -> None:
        """``reading``: which time the source is read from a stored cursor. ``end``: ends a session, and says why."""
        self._receipts = receipts
        self._reading = reading
        self._end = end
        self._sending = False
        self._sent = asyncio.Event()

    def clear(self) -> None:
        """Forget what is settled: PostgreSQL may have lost it, and these messages must come again."""
        self._receipts.clear()

    async def run(self, session: Session) -> None:
        """Acknowledge until cancelled."""
        while True:
            batch = await self._receipts.take(AT_ONCE)
            self._sending = True
            try:
                await self._acknowledge(session, batch)
            finally:
                self._sending = False
                self._sent.set()

    async def _acknowledge(self, session: Session, batch: list[Receipt]) -> None:
        reading = self._reading()
        try:
            with border("acknowledging failed"):
                await session.settled(batch)
        except (SourceEnded, asyncio.CancelledError) as error:
            if reading == self._reading():  # some may be acknowledged already: repeating is harmless
                self._receipts.put_all(batch)
            if not isinstance(error, SourceEnded):
                raise
            if error.loss.trace:
                self._end(session, error.loss)
            await asyncio.sleep(PAUSE_SECONDS)

    @property
    def done(self) -> bool:
        """Whether all that is settled is acknowledged."""
        return not self._receipts and not self._sending

    async def until_done(self) -> None:
        """Return once all that is settled is acknowledged."""
        while not self.done:
            self._sent.clear()
            await self._sent.wait()
