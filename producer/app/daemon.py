"""One producer process: starts and stops its journal, publisher, stream, HTTP endpoint and retention."""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

from unlost.listener.core.codec_loading import codec_of
from unlost.listener.core.errors import Misconfigured
from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.http import HttpServer
from unlost.ops.kit.telemetry.metrics import LoopLag, metrics_route, new_registry
from unlost.ops.kit.telemetry.otel.starting import telemetry_of
from unlost.producer.app.following import Following
from unlost.producer.app.http import Publishing
from unlost.producer.app.metrics import ProducerMetrics
from unlost.producer.app.opening import open_journal
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.app.upkeep import JournalCheck, JournalUpkeep
from unlost.producer.journal.port import Entry, HistoryLost, JournalError
from unlost.producer.publish.publisher import GroupCommit
from unlost.producer.stream.damage import DamagedEntries
from unlost.producer.stream.groups import CursorReport
from unlost.producer.stream.page import PageFiles, load_page
from unlost.producer.stream.server import StreamServer
from unlost.producer.stream.tail import Tail

if TYPE_CHECKING:
    from unlost.producer.app.traces import PublishTraces

RETENTION_EVERY = 30.0
CHECKPOINT_EVERY = 1.0
FAILED_EVERY = 0.5
LOOK_AT_MOST_EVERY = 0.5
"""Seconds between two checks, at least: each takes the journal's write lock between commits."""


class ProducerDaemon:
    """One producer process. ``run`` returns after a stop was requested and all commits in progress have ended."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self._journal = open_journal(settings.journal, settings.max_event_bytes, codec_of(settings))
        self._tail = Tail(self._journal.bounds()[1])
        self._registry = new_registry()
        self._metrics = ProducerMetrics(self._registry)
        self._gate = settings.gate(
            self._registry, origins=settings.allowed_origins, limits=settings.limits(), senders=settings.senders()
        )
        self._publisher = GroupCommit(
            self._journal,
            placed=self._placed,
            committed=self._committed,
            failed=self._publishing_failed,
        )
        self._damage = DamagedEntries()
        self._keeping = JournalUpkeep(self._journal, retention=settings.retention, max_bytes=settings.max_journal_bytes)
        self._looked: JournalCheck | None = None
        self._metrics.damaged.set_function(lambda: self._damage.count)
        page = load_page()
        self._stream = self._made_stream(page)
        self._metrics.clients.set_function(lambda: self._stream.clients)
        self._metrics.lag.set_function(lambda: self._stream.lag)
        self._publishing = self._made_publishing(page)
        self._gate.on_change = self._stream.recheck
        self._http = self._made_http()
        self._lag = LoopLag(self._registry)
        self._telemetry = telemetry_of("unlost-producer", {}, self._registry, structlog.get_logger())
        self._traces: PublishTraces | None = None
        if self._telemetry is not None and self._telemetry.provider is not None:
            from unlost.producer.app import traces

            self._traces = traces.PublishTraces(self._telemetry)
        self._error = ""
        self._look_again = asyncio.Event()
        self._stop = asyncio.Event()
        self._phase = "starting"

    def _made_stream(self, page: PageFiles) -> StreamServer:
        settings = self._settings
        return StreamServer(
            self._journal,
            self._tail,
            page=page,
            gate=self._gate,
            right="read:payload" if (settings.redact or settings.codec) and not self._gate.is_open else "read",
            most_clients=settings.max_clients,
            max_event=settings.max_event_bytes,
            ping_timeout=settings.ping_timeout,
            sent=self._metrics.sent,
            damage=self._damage,
            reported=self._reported,
        )

    def _made_publishing(self, page: PageFiles) -> Publishing:
        return Publishing(
            self._settings,
            journal=self._journal,
            publisher=self._publisher,
            page=page,
            health=self.health,
            metrics=metrics_route(self._registry),
            count_outcome=self._metrics.count_outcome,
            groups=self._keeping.groups,
            damage=self._damage,
            gate=self._gate,
        )

    def _made_http(self) -> HttpServer:
        settings = self._settings
        return HttpServer(
            self._publishing.application,
            settings.host,
            settings.port,
            max_body=None,
            max_held=2 * settings.max_batch_bytes,
            protocol=self._publishing.protocol,
            tls=self._gate.handshakes,
        )

    def stop(self) -> None:
        """Request an orderly stop."""
        self._stop.set()

    async def run(self) -> None:
        """Start, serve until a stop is requested, shut down."""
        log = structlog.get_logger()
        try:
            async with asyncio.TaskGroup() as tasks:
                commits = tasks.create_task(self._publisher.run(), name="commits")
                side = [
                    tasks.create_task(self._lag.run(), name="loop lag"),
                    *([] if self._telemetry is None else [tasks.create_task(self._telemetry.run(), name="telemetry")]),
                    tasks.create_task(self._gate.watch(), name="tokens"),
                    tasks.create_task(self._look_after(), name="retention"),
                    tasks.create_task(self._checkpoint_for_ever(), name="journal's log"),
                    tasks.create_task(Following(self._journal, self._tail, self._failed).run(), name="other producers"),
                ]
                host = self._settings.host
                http_port, stream_port = await self._listen(host)
                self._phase = "running"
                s = "s" if self._gate.tls else ""
                log.info("listening", http=f"http{s}://{host}:{http_port}", stream=f"ws{s}://{host}:{stream_port}/")
                await self._stop.wait()
                self._phase = "stopping"
                await self._http.stop()
                await self._stream.stop()
                for task in (commits, *side):
                    task.cancel()
        finally:
            await self._publishing.close()
            self._journal.close()
            if self._telemetry is not None:
                await self._telemetry.close()
        log.info("stopped")

    async def _listen(self, host: str) -> tuple[int, int]:
        try:
            http_port = await self._http.start()
            stream_port = await self._stream.start(host, self._settings.ws_port, http_port=http_port)
        except OSError as error:
            raise Misconfigured(f"cannot listen on --host {host} (HOST): {error}") from error
        self._publishing.stream_port = stream_port
        return http_port, stream_port

    async def _look_after(self) -> None:
        """Repeatedly run retention, update the metrics, and check that the journal can be written."""
        while True:
            self._look_again.clear()
            try:
                self._note(await self._keeping.look())
                self._error = ""
            except HistoryLost:
                raise  # the clients' streams end with the process, and begin anew with the next
            except JournalError as error:
                self._failed(error)
            await asyncio.sleep(LOOK_AT_MOST_EVERY)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAILED_EVERY if self._error or self._publisher.full else RETENTION_EVERY):
                    await self._look_again.wait()

    def _note(self, looked: JournalCheck) -> None:
        log = structlog.get_logger()
        if looked.full and not self._publisher.full:
            log.error("journal_full", why=looked.full)
        elif self._publisher.full and not looked.full:
            log.info("journal_has_room")
        self._publisher.full = looked.full
        self._looked = looked
        self._metrics.journal(looked)
        self._metrics.groups(self._keeping.groups.all, looked.stats.newest)

    def _placed(self, newest: int, entries: Iterable[Entry]) -> None:
        if self._traces is None:
            self._tail.extend(newest, entries)
            return
        written = list(entries)
        self._tail.extend(newest, written)
        self._traces.placed(written)

    def _committed(self, count: int, seconds: float) -> None:
        self._metrics.committed(count, seconds)
        if self._traces is not None:
            self._traces.committed(seconds)
        if self._journal.held > self._settings.max_journal_bytes:
            self._look_again.set()

    def _reported(self, report: CursorReport) -> None:
        self._keeping.report(report, self._tail.newest)
        self._metrics.groups(self._keeping.groups.all, self._tail.newest)

    async def _checkpoint_for_ever(self) -> None:
        """Checkpoint the log repeatedly, so that no commit must. Errors are ignored: writers find and report them."""
        while True:
            with contextlib.suppress(JournalError):
                await asyncio.to_thread(self._journal.checkpoint)
            await asyncio.sleep(CHECKPOINT_EVERY)

    def _failed(self, error: JournalError) -> None:
        if not self._error:
            structlog.get_logger().error("journal_failed", why=str(error))
        self._error = str(error)

    def _publishing_failed(self, error: JournalError) -> None:
        """Stop being ready at once, until a check has written to the journal again."""
        if not self._error:
            self._look_again.set()
        self._failed(error)

    def health(self) -> Health:
        """Ready while events can be written."""
        facts: dict[str, object] = {"phase": self._phase, "clients": self._stream.clients, "newest": self._tail.newest}
        full = nearly = ""
        if self._looked is not None:
            full, nearly = self._looked.full, self._looked.nearly
            facts |= {"entries": self._looked.stats.entries, "journal_bytes": self._looked.stats.size}
        able = (
            Check("running", self._phase == "running", f"the producer is {self._phase}"),
            Check("journal", not self._error, self._error),
            Check("room", not full, full),
        )
        return Health(
            self._settings.instance_id, (), able, facts,
            (*((nearly,) if nearly else ()), *self._damage.remark(), *self._gate.remarks()),
        )  # fmt: skip
