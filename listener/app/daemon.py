"""The daemon: a listener with its HTTP endpoint, logs and metrics. Starts and stops them."""

import time
from collections.abc import Mapping

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Gauge

from unlost.dlq.record.file import DeadLetterFile
from unlost.listener.app.dead_letter_sink import FileDeadLetterSink
from unlost.listener.app.http import application
from unlost.listener.app.listening import Listening
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.errors import Unaccounted
from unlost.listener.core.facts import Facts, broadcast
from unlost.listener.observe.changes import Changes
from unlost.listener.observe.letters import LetterGauges
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.observe.metrics import ListenerMetrics
from unlost.listener.observe.progress import Progress
from unlost.listener.observe.recent import Recent
from unlost.listener.pipeline.pipeline import Drained
from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.http import HttpServer
from unlost.ops.kit.telemetry.metrics import LoopLag, metrics_route, new_registry


class Daemon:
    """One listener process. ``run`` returns once it was asked to stop and has drained."""

    def __init__(self, settings: ListenerSettings, *, subscriber: Facts | None = None) -> None:
        self._settings = settings
        registry = new_registry()
        self._recent = Recent(time.time)
        self._changes = Changes(time.time)
        self._progress = Progress(time.monotonic)
        facts = broadcast(
            ListenerMetrics(registry),
            ListenerLogs(debug=settings.log_level == "debug"),
            self._recent,
            self._changes,
            self._progress,
            *([] if subscriber is None else [subscriber]),
        )
        source = settings.source()
        # As every command for letters does: by another name, the lock and the sidecar would be others.
        letters = settings.dead_letter_file.resolve()
        self._sink = FileDeadLetterSink(
            DeadLetterFile(letters),
            letters,
            instance=settings.instance_id,
            source=source.name,
            handler=settings.handler_name,
            group=settings.group,
            degraded=lambda: self._engine.manager.degraded,
        )
        self._listening = Listening(settings, self._sink, facts)
        self._engine = self._listening.engine
        self._reader = self._listening.reader
        self._lag = LoopLag(registry)
        self._letter_gauges = LetterGauges(letters, registry)
        self._gauges(registry)
        self._http = HttpServer(
            application(
                watched=self,
                store=self._engine.store,
                recent=self._recent,
                instance=settings.instance_id,
                metrics=metrics_route(registry),
                console_url=settings.console_url,
            ),
            settings.host,
            settings.port,
            max_body=65_536,
        )

    def stop(self) -> None:
        """Ask it to drain and end."""
        self._listening.stop()

    async def run(self) -> None:
        """Start, work until asked to stop, drain, end."""
        port = await self._http.start()
        structlog.get_logger().info("listening", address=f"http://{self._settings.host}:{port}")
        try:
            drained = await self._listening.run(self._lag.run, self._letter_gauges.run)
            if drained is not None:
                structlog.get_logger().info("drained", released=drained.released, buried=drained.buried)
                self._must_account_for_all(drained)
        finally:
            await self._http.stop()
            self._sink.close()
            await self._engine.close()

    def _must_account_for_all(self, drained: Drained) -> None:
        if drained.missing:
            raise Unaccounted(
                f"stopped, and {drained.missing:,} received events are in no row and no letter: "
                f"{self._engine.pipeline.settling.error}; only a peer that received them too can store them"
            )

    # -- health and gauges ----------------------------------------------------------------------

    def health(self) -> Health:
        """Return the complete health, from what this process knows without asking any server."""
        engine, reader = self._engine, self._reader
        intake, manager = engine.pipeline.intake, engine.manager
        in_hand = intake.count - engine.pipeline.standby.count
        stuck_for = self._progress.stuck_for(in_hand, self._oldest_age())
        limit = max(self._settings.stuck_after, 2 * self._settings.handle_timeout)
        able = (
            Check("running", self._listening.phase == "running", f"the listener is {self._listening.phase}"),
            Check("source", reader.connected, reader.error),
            Check("reading", not reader.paused, reader.paused),
            Check("handler", self._same_handler, manager.agreement.why_not()),
            Check("claims", manager.open, manager.why_closed()),
            Check("storing", not engine.pipeline.store_watch.error, engine.pipeline.store_watch.error),
            Check("dead_letters", not engine.pipeline.settling.error, engine.pipeline.settling.error),
            Check("progress", stuck_for < limit, f"nothing in hand has moved for {stuck_for:.0f} s"),
        )
        facts = {
            "phase": self._listening.phase,
            "handler": self._settings.handler_name,
            "mode": "degraded" if manager.degraded else "normal",
            "places": sorted(manager.leases.places),
            "breakers": {b.name: b.state for b in (engine.redis_breaker, engine.store_breaker)},
            "breaker_causes": {b.name: b.why for b in (engine.redis_breaker, engine.store_breaker) if b.is_open},
            "peer_warnings": list(manager.peer_warnings),
            "in_memory": intake.count,
            "claims_held": len(manager.leases),
            "standing_by": engine.pipeline.standby.count,
            "source_resumes": reader.resumes,
            "source_lost": None if reader.last_loss is None else reader.last_loss.shown(),
            "cursor": intake.watermark.cursor,
            "received": intake.watermark.newest,
            "unsettled": intake.watermark.waiting,
            "loop_lag_seconds": round(self._lag.seconds, 3),
            "since": self._changes.since(),
            "changes": [msgspec.to_builtins(one) for one in self._changes.lately()],
        }
        cause = f" ({engine.redis_breaker.why})" if engine.redis_breaker.is_open else ""
        remarks = [f"degraded: claims are kept in PostgreSQL, without Redis{cause}"] if manager.degraded else []
        remarks += self._changes.remarks()
        return Health(self._settings.instance_id, (), able, facts, (*remarks, *manager.peer_warnings))

    @property
    def _same_handler(self) -> bool:
        manager = self._engine.manager
        return manager.agreement.reached or not manager.leases.places

    def in_flight(self, event_id: str) -> Mapping[str, object] | None:
        """Return the state of an event that is in memory now."""
        flight = self._engine.pipeline.intake.find(event_id)
        if flight is None:
            return None
        held = self._engine.manager.leases.is_held(event_id)
        return {
            "state": "owner" if held else "waiting",
            "epoch": flight.epoch,
            "failed_attempts": len(flight.attempts),
            "received_at": flight.received_at,
        }

    def _oldest_age(self) -> float:
        """Return the age of the oldest event in memory. By its rate, a listener that finishes nothing looks idle."""
        stamps = (flight.received_clock for flight in self._engine.pipeline.intake.inside())
        oldest = min(stamps, default=None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    def _gauges(self, registry: CollectorRegistry) -> None:
        engine = self._engine
        intake = engine.pipeline.intake
        for name, about, value in (
            ("in_memory_events", "Events in memory", lambda: intake.count),
            ("in_memory_bytes", "Bytes that events in memory count for", lambda: intake.size),
            ("claims_held", "Claims that this process holds", lambda: len(engine.manager.leases)),
            ("standing_by", "Events that wait for another owner", lambda: engine.pipeline.standby.count),
            ("oldest_unsettled_seconds", "Age of the oldest event in memory, 0 without one", self._oldest_age),
            ("unsettled_positions", "Positions behind the cursor", lambda: intake.watermark.waiting),
            ("handlers_differ", "1 while a live peer has another handler", lambda: not self._same_handler),
        ):
            Gauge(f"unlost_{name}", about, registry=registry).set_function(value)
