"""One source of a listener: the way in, the reader, and the committer of its cursor.

A listener may read several. Each has a cursor and a health of its own, and one that fails does not stop the others.
"""

import asyncio
from collections.abc import Callable
from dataclasses import asdict

from unlost.listener.app.engine import Engine
from unlost.listener.app.sources import Build, key_of
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.facts import Facts, NotAcknowledged
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.core.watermark import Watermark
from unlost.listener.ports.source import Receipt
from unlost.listener.source.backfilling import Backfiller
from unlost.listener.source.committer import CursorCommitter
from unlost.listener.source.contact_keeper import ContactKeeper
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.gaps import GapRecorder
from unlost.listener.source.reader import Reader, ReadingOptions
from unlost.listener.source.stream.stream import StreamSource

REMARK_SECONDS = 60.0


class SourceReading:
    """Reads one source into an engine."""

    def __init__(
        self,
        build: Build,
        options: ReadingOptions,
        engine: Engine,
        *,
        gaps: GapRecorder,
        clocks: Clocks,
        rng: Callable[[], float],
        facts: Facts,
    ) -> None:
        self._engine = engine
        self._facts = facts
        self._remarked: tuple[int, float] = 0, float("-inf")
        """How many messages without an acknowledgement were stated, and when."""
        self._clock = clocks.monotonic
        receipts: BatchQueue[Receipt] = BatchQueue()
        self.source = build(self._saved)
        self.inlet = engine.pipeline.inlet(
            self.source.name, shared=self.source.shared, acknowledge=receipts.put_all, key=key_of(self.source)
        )
        self.reader = Reader(
            self.source,
            options,
            inlet=self.inlet,
            cursors=engine.cursors,
            gaps=gaps,
            must_pause=self._must_pause,
            database_away=self._away,
            overflow=self._overflow,
            facts=facts,
            receipts=receipts,
            clock=clocks.monotonic,
            rng=rng,
        )
        self.backfiller = self._backfiller(clocks, rng, facts)
        self._fetching: asyncio.Task[None] | None = None
        self._stopping = False
        keeper = self._keeper(facts)
        self.committer = CursorCommitter(
            self._watermark, engine.cursors, store=self._store, source=self.source.name, group=options.group,
            facts=facts, before=[self._remarks] if keeper is None else [keeper.save, self._remarks],
        )  # fmt: skip

    def _keeper(self, facts: Facts) -> ContactKeeper | None:
        """Make what keeps the contact over a restart. Brokers have offsets instead."""
        source = self.source
        if not isinstance(source, FeedSource | StreamSource):
            return None
        return ContactKeeper(
            source,
            self._engine.gaps,
            taken=lambda: self.reader.messages,
            watermark=self._watermark,
            lag=lambda: self.lag_seconds,
            facts=facts,
        )

    def _backfiller(self, clocks: Clocks, rng: Callable[[], float], facts: Facts) -> Backfiller | None:
        """Make what fetches gaps, if the source is a feed that says how."""
        source, engine = self.source, self._engine
        if not isinstance(source, FeedSource) or source.feed.fetching is None:
            return None
        return Backfiller(
            source.name, source.feed, source.feed.fetching,
            admit=lambda acknowledge: engine.pipeline.inlet(
                source.name, shared=True, acknowledge=acknowledge, key=key_of(source)
            ),
            gaps=engine.gaps, rows=engine.store, max_bytes=source.max_bytes, facts=facts,
            held=lambda: engine.pausing.listener, now=clocks.now, rng=rng,
        )  # fmt: skip

    def read_again(self) -> None:
        """Read the source again: PostgreSQL may lack settled events."""
        self.reader.read_again()
        if self.backfiller is not None:
            self.backfiller.read_again()

    def _away(self) -> str:
        """Return why events read now could not be stored soon. Paused routes count if events are not sent again."""
        return self._engine.database_away() or ("" if self.source.resumes else self._engine.routes_paused())

    async def run(self) -> None:
        """Read and commit until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.committer.run(), name=f"cursor of {self.source.name}")
            tasks.create_task(self.reader.run(), name=f"read {self.source.name}")
            if self.backfiller is not None and not self._stopping:
                self._fetching = tasks.create_task(self.backfiller.run(), name=f"fetch gaps of {self.source.name}")

    async def take_no_more(self) -> None:
        """Take no more events, neither from the source nor by fetching what gaps missed."""
        self._stopping = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        await self.reader.take_no_more()

    def picture(self) -> dict[str, object]:
        """Return what health shows of this source."""
        reader, watermark = self.reader, self.inlet.watermark
        return {
            "name": self.source.name,
            "connected": reader.connected,
            "resumes": self.source.resumes,
            "paused": reader.paused,
            "lost": None if reader.last_loss is None else reader.last_loss.as_values(),
            "cursor": watermark.cursor,
            "received": watermark.newest,
            "unsettled": watermark.waiting,
            "lag_seconds": round(self.lag_seconds, 3),
            **({"feed": asdict(self.source.counts)} if isinstance(self.source, FeedSource) else {}),
        }

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest event of this source that is not settled; 0 if all are."""
        oldest = self.inlet.watermark.oldest_at
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)

    async def _remarks(self) -> None:
        """State, at most once a minute, how many messages of a feed cannot be acknowledged."""
        if not isinstance(self.source, FeedSource):
            return
        (stated, at), count, now = self._remarked, self.source.counts.unacknowledged, self._clock()
        if count > stated and now >= at + REMARK_SECONDS:
            self._remarked = count, now
            self._facts(NotAcknowledged(self.source.name, count - stated))

    @property
    def held(self) -> str:
        """Why a person keeps this source from being read; never of a source that would not send again."""
        return self._engine.pausing.listener if self.source.resumes else ""

    def _saved(self) -> str | None:
        return self.committer.stored

    def _watermark(self) -> Watermark:
        return self.inlet.watermark

    def _store(self) -> StoreMark | None:
        return self._engine.manager.known_store.mark

    def _must_pause(self) -> str:
        pipeline = self._engine.pipeline
        return pipeline.settling.error or self.held or (pipeline.key_watch.why if self.source.resumes else "")

    def _overflow(self, body: bytes, cursor: str | None) -> None:
        if (flight := self.inlet.overflow(body, cursor)) is not None:
            self._engine.pipeline.settling.bury(flight, DeadLetterCause("overflow", "receive"))
