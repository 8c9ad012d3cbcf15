"""Watches a drill from a separate thread: it publishes, samples health and counts rows while the drill does its acts.

The drill itself runs in the main thread, because child processes are bound to the thread that started them; and
starting a server blocks that thread for a while.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import httpx

from unlost.ops.faults.drills.measure import Sample
from unlost.ops.faults.drills.stage import StageError
from unlost.ops.faults.drills.traffic import PublishTimes, Traffic, publish

SAMPLE_SECONDS = 0.1
COUNT_SECONDS, COUNT_PAUSES = 1.0, 4
SILENT_AFTER = 0.5
JOIN_SECONDS = 10.0


@dataclass(slots=True)
class Seen:
    """The thread's observations until now; other threads only read them."""

    published: PublishTimes = field(default_factory=PublishTimes)
    samples: list[Sample] = field(default_factory=list)
    in_memory: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, str | None] = field(default_factory=dict)
    rows: int = 0
    moved_at: float = field(default_factory=time.monotonic)
    """When a listener's cursor or the number of rows was last seen to change."""
    failure: str = ""

    def cursor(self, url: str, cursor: str | None) -> None:
        """Note a listener's position in the stream."""
        if self.cursors.get(url) != cursor:
            self.cursors[url], self.moved_at = cursor, time.monotonic()

    def counted(self, rows: int) -> None:
        """Note the number of rows."""
        if self.rows != rows:
            self.rows, self.moved_at = rows, time.monotonic()


class Watcher:
    """A context manager: within it, the stream is published and everything is sampled."""

    def __init__(
        self,
        stream: Traffic,
        producer_url: str,
        listener_urls: Sequence[str],
        count_rows: Callable[[str], Awaitable[int]],
        headers: Mapping[str, str],
    ) -> None:
        self.seen = Seen()
        self._stream = stream
        self._producer_url = producer_url
        self._listener_urls = listener_urls
        self._count_rows = count_rows
        self._headers = headers
        self._ending = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drill watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)

    async def until_published(self, count: int) -> None:
        """Return once ``count`` events have been accepted."""
        while len(self.seen.published.accepted) < count and self._thread.is_alive():  # noqa: ASYNC110  a thread's work
            await asyncio.sleep(0.01)

    async def until_all_published(self, seconds: float) -> bool:
        """Whether the stream ended within ``seconds``."""
        deadline = time.monotonic() + seconds
        while not self.seen.published.done and time.monotonic() < deadline and self._thread.is_alive():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return self.seen.published.done

    async def end_stream(self, seconds: float) -> bool:
        """Publish nothing more; return whether everything sent was answered within ``seconds``."""
        self._ending.set()
        return await self.until_all_published(seconds)

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except Exception as error:  # noqa: BLE001  the border of the thread: reported in the verdict
            why = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            self.seen.failure = f"the watcher failed: {type(why).__name__}: {why}"

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            sampling = [tasks.create_task(self._sample(url)) for url in self._listener_urls]
            sampling.append(tasks.create_task(self._count()))
            await publish(
                self._stream, self._producer_url, self.seen.published,
                headers=self._headers, ending=self._ending.is_set, stopping=self._stopping.is_set,
            )  # fmt: skip
            while not self._stopping.is_set():  # noqa: ASYNC110  set by another thread
                await asyncio.sleep(0.05)
            for task in sampling:
                task.cancel()

    async def _sample(self, url: str) -> None:
        async with httpx.AsyncClient(
            base_url=url, timeout=SILENT_AFTER, trust_env=False, headers=self._headers
        ) as client:
            while True:
                at = time.time()
                try:
                    health = (await client.get("/health")).json()
                    self.seen.in_memory[url] = health["in_memory"]
                    self.seen.cursor(url, health["sources"][0]["cursor"])
                    well = (
                        health["ready"]
                        and health["mode"] == "normal"
                        and set(health["breakers"].values()) == {"closed"}
                    )
                except (httpx.TransportError, ValueError, KeyError):
                    well = False
                self.seen.samples.append(Sample(at, url, bool(well)))
                await asyncio.sleep(SAMPLE_SECONDS)

    async def _count(self) -> None:
        """Count rows for display. The pauses grow with the cost of a count, so that it burdens the machine little."""
        while True:
            began = time.monotonic()
            with contextlib.suppress(StageError):
                self.seen.counted(await self._count_rows(self._stream.prefix))
            await asyncio.sleep(COUNT_SECONDS + COUNT_PAUSES * (time.monotonic() - began))
