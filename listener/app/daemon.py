"""The daemon: a listener with its HTTP endpoint, logs and metrics. Starts and stops them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from unlost.dlq.record.file import DeadLetterFile
from unlost.listener.app.dead_letter_sink import FileDeadLetterSink
from unlost.listener.app.difference import DifferenceWatch
from unlost.listener.app.exporting import Exporting
from unlost.listener.app.gauges import EffectGauges, EngineGauges, SourceGauges
from unlost.listener.app.health import ListenerHealth
from unlost.listener.app.http import application
from unlost.listener.app.listening import Listening
from unlost.listener.app.notifying import Notifying
from unlost.listener.app.observers import Observers
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.shipping import Shipping
from unlost.listener.app.wiring import standby_of
from unlost.listener.core.errors import Unaccounted
from unlost.listener.core.facts import Facts
from unlost.listener.core.in_flight import InFlight
from unlost.listener.observe.letters import LetterGauges
from unlost.listener.observe.metrics import ListenerMetrics
from unlost.listener.observe.recent import Recent
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.orderly_stop import Drained
from unlost.listener.pipeline.work import WaitingEvent
from unlost.listener.routing.finding import find_handler
from unlost.listener.store.postgres.pages import Pages
from unlost.ops.kit.access.tls_settings import unverified
from unlost.ops.kit.telemetry.http import HttpServer
from unlost.ops.kit.telemetry.metrics import LoopLag, metrics_route, new_registry


class ListenerDaemon:
    """One listener process. ``run`` returns after a requested stop, once it has drained."""

    def __init__(
        self,
        settings: ListenerSettings,
        *,
        subscriber: Facts | None = None,
        find: Callable[[str], Handler] = find_handler,
        log: Any = None,
    ) -> None:
        """``find`` makes a handler from its name. ``log`` takes the log lines, if the program has its own logging."""
        self._settings = settings
        self._log = structlog.get_logger() if log is None else log
        self.port = 0
        registry = new_registry()
        self._gate = settings.gate(registry, group=settings.group)
        self._exporting = Exporting(settings, registry, self._find, self._log, whole_process=log is None)
        observers = Observers(settings, registry, self._log, [subscriber, self._exporting.traces])
        # Resolved as in every command for letters: another path would mean another lock and another sidecar.
        letters = settings.dead_letter_file.resolve()
        self._sink = self._made_sink(letters)
        self._listening = Listening(settings, self._sink, observers.facts, find=find)
        self.working = self._listening.working
        self._engine = self._listening.engine
        self._difference = self._made_difference(observers)
        self._shipping = self._made_shipping(letters, observers)
        self._notifying = self._made_notifying(observers.facts)
        self._lag = LoopLag(registry)
        self._letter_gauges = LetterGauges(letters, registry)
        self._show(registry, observers.metrics)
        health = ListenerHealth(
            settings, self._listening, shipping=self._shipping, changes=observers.changes,
            progress=observers.progress, gate=self._gate, lag=self._lag,
        )  # fmt: skip
        self.health = health.now
        self._pages = Pages(
            self._engine.store, standby_of(settings, settings.group, settings.database_timeout), self._engine.codec
        )
        self._http = self._made_http(registry, observers.recent)

    def _made_sink(self, letters: Path) -> FileDeadLetterSink:
        return FileDeadLetterSink(
            DeadLetterFile(letters),
            letters,
            instance=self._settings.instance_id,
            handler=self._settings.handler_name,
            group=self._settings.group,
            degraded=self._is_degraded,
            route_of=lambda event: self._engine.route_of(event),
            codec=lambda: self._engine.codec,
        )

    def _made_difference(self, observers: Observers) -> DifferenceWatch:
        peers_are_comparable = not any(one.source.shared for one in self._listening.readings)
        return DifferenceWatch(
            observers.differing, self._engine.stored_by_peers if peers_are_comparable else None, observers.facts
        )

    def _made_shipping(self, letters: Path, observers: Observers) -> Shipping:
        assert self._engine.letters is not None
        healing = self._settings.healing()
        return Shipping(
            letters,
            self._engine.letters,
            instance=self._settings.instance_id,
            heal_after=lambda letter: healing.heal_after(letter.reason, letter.error_class),
            facts=observers.facts,
            changed=observers.letters_changed.event,
            shipped=self._engine.pipeline.healer.again,
        )

    def _made_notifying(self, facts: Facts) -> Notifying:
        assert self._engine.notifications is not None
        settings = self._settings
        return Notifying(
            self._engine.notifications,
            self._engine.channel,
            settings.receivers(),
            lease=settings.effect_policy().lease,
            group=settings.group,
            console=settings.console_url,
            redactor=settings.redactor(),
            facts=facts,
        )

    def _show(self, registry: CollectorRegistry, metrics: ListenerMetrics) -> None:
        """Show in metrics what no fact states."""
        metrics.show_routes(self._engine.pipeline.work.pausing)
        metrics.show_sources([one.source.name for one in self._listening.readings])
        registry.register(EngineGauges(self._engine))
        registry.register(EffectGauges(self._listening.effects))
        registry.register(SourceGauges(self._listening.readings))
        self._shipping.gauges(registry)

    def _made_http(self, registry: CollectorRegistry, recent: Recent) -> HttpServer:
        settings = self._settings
        app = application(
            watched=self,
            store=self._engine.store,
            pages=self._pages,
            recent=recent,
            instance=settings.instance_id,
            metrics=metrics_route(registry),
            asyncapi=self._asyncapi,
            console_url=settings.console_url,
            gate=self._gate,
            redactor=settings.redactor(),
        )
        return HttpServer(app, settings.host, settings.port, max_body=65_536, tls=self._gate.handshakes)

    def stop(self) -> None:
        """Ask it to drain and end."""
        self._listening.stop()

    async def run(self) -> None:
        """Start, work until asked to stop, drain, end."""
        self.port = await self._http.start()
        scheme = "https" if self._gate.tls else "http"
        self._log.info("listening", address=f"{scheme}://{self._settings.host}:{self.port}")
        if why := unverified(self._settings.database_url.reveal()):
            self._log.warning("database_unverified", why=why)
        try:
            drained = await self._listening.run(
                self._lag.run,
                self._letter_gauges.run,
                self._shipping.run,
                self._gate.watch,
                self._difference.run,
                self._notifying.run,
                self._exporting.run,
            )
            if drained is not None:
                await self._shipping.finish()
                self._log.info("drained", released=drained.released, buried=drained.buried)
                self._must_account_for_all(drained)
        finally:
            await self._http.stop()
            self._sink.close()
            await self._pages.close()
            await self._engine.close()
            await self._exporting.close()

    def _must_account_for_all(self, drained: Drained) -> None:
        if drained.missing:
            raise Unaccounted(
                f"stopped, and {drained.missing:,} received events are in no row and no letter: "
                f"{self._engine.pipeline.settling.error}; only a peer that received them too can store them"
            )

    def _is_degraded(self) -> bool:
        return self._engine.manager.degraded

    def next_retries(self, most: int) -> Sequence[WaitingEvent]:
        """Return the events whose next attempt comes first."""
        return self._engine.pipeline.work.next_retries(most)

    def _asyncapi(self) -> Mapping[str, Any]:
        from unlost.listener.routing.asyncapi import asyncapi_of  # most listeners are never asked

        handler, settings = self._engine.handler, self._settings
        return asyncapi_of(handler, name=settings.handler, version=settings.handler_version)

    def _find(self, event_id: str) -> InFlight | None:
        return self._engine.pipeline.intake.find(event_id)

    def in_flight(self, event_id: str) -> Mapping[str, object] | None:
        """Return the state of an event that is in memory now."""
        flight = self._find(event_id)
        if flight is None:
            return None
        held = self._engine.manager.leases.is_held(event_id)
        return {
            "state": "owner" if held else "waiting",
            "epoch": flight.epoch,
            "failed_attempts": len(flight.attempts),
            "received_at": flight.received_at,
        }
