"""The daemon: a listener with its HTTP endpoint, logs and metrics. Starts and stops them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import structlog

from unlost.dlq.record.file import DeadLetterFile
from unlost.listener.app.dead_letter_sink import FileDeadLetterSink
from unlost.listener.app.difference import DifferenceWatch
from unlost.listener.app.exporting import Exporting
from unlost.listener.app.gauges import EffectGauges, EngineGauges, SourceGauges
from unlost.listener.app.http import application
from unlost.listener.app.listening import Listening
from unlost.listener.app.notifying import Notifying
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.shipping import LettersChanged, Shipping
from unlost.listener.app.wiring import standby_of
from unlost.listener.core.errors import Unaccounted
from unlost.listener.core.facts import Facts, broadcast
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.pause import Pause
from unlost.listener.observe.changes import Changes
from unlost.listener.observe.differing import Differing
from unlost.listener.observe.letters import LetterGauges
from unlost.listener.observe.logs import ListenerLogs
from unlost.listener.observe.metrics import ListenerMetrics
from unlost.listener.observe.progress import Progress
from unlost.listener.observe.recent import Recent
from unlost.listener.pipeline.handlers import Handler
from unlost.listener.pipeline.orderly_stop import Drained
from unlost.listener.pipeline.work import WaitingEvent
from unlost.listener.routing.finding import find_handler
from unlost.listener.store.postgres.pages import Pages
from unlost.ops.kit.access.tls_settings import unverified
from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.http import HttpServer
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.metrics import LoopLag, metrics_route, new_registry


class Daemon:
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
        self._recent = Recent(time.time)
        self._changes = Changes(time.time, settings.redactor())
        self._progress = Progress(time.monotonic)
        metrics = ListenerMetrics(registry)
        self._exporting = Exporting(settings, registry, self._find, self._log, whole_process=log is None)
        facts = broadcast(
            metrics,
            ListenerLogs(debug=settings.log_level == "debug", log=self._log, redactor=settings.redactor()),
            self._recent,
            self._changes,
            self._progress,
            letters_changed := LettersChanged(),
            differing := Differing(),
            *filter(None, [subscriber, self._exporting.traces]),
        )
        # Resolved as in every command for letters: another path would mean another lock and another sidecar.
        letters = settings.dead_letter_file.resolve()
        self._sink = FileDeadLetterSink(
            DeadLetterFile(letters),
            letters,
            instance=settings.instance_id,
            handler=settings.handler_name,
            group=settings.group,
            degraded=self._is_degraded,
            route_of=lambda event: self._engine.route_of(event),
            codec=lambda: self._engine.codec,
        )
        self._listening = Listening(settings, self._sink, facts, find=find)
        self.working = self._listening.working
        self._engine = self._listening.engine
        metrics.show_routes(self._engine.pipeline.work.pausing)
        peers_are_comparable = not any(one.source.shared for one in self._listening.readings)
        self._difference = DifferenceWatch(
            differing, self._engine.stored_by_peers if peers_are_comparable else None, facts
        )
        self._lag = LoopLag(registry)
        self._letter_gauges = LetterGauges(letters, registry)
        registry.register(EngineGauges(self._engine))
        registry.register(EffectGauges(self._listening.effects))
        registry.register(SourceGauges(self._listening.readings))
        assert self._engine.letters is not None
        healing = settings.healing()
        self._shipping = Shipping(
            letters,
            self._engine.letters,
            instance=settings.instance_id,
            heal_after=lambda letter: healing.heal_after(letter.reason, letter.error_class),
            facts=facts,
            changed=letters_changed.event,
            shipped=self._engine.pipeline.healer.again,
        )
        self._shipping.gauges(registry)
        assert self._engine.notifications is not None
        self._notifying = Notifying(
            self._engine.notifications,
            self._engine.channel,
            settings.receivers(),
            lease=settings.effect_policy().lease,
            group=settings.group,
            console=settings.console_url,
            redactor=settings.redactor(),
            facts=facts,
        )
        self._pages = Pages(
            self._engine.store, standby_of(settings, settings.group, settings.database_timeout), self._engine.codec
        )
        self._http = HttpServer(
            application(
                watched=self,
                store=self._engine.store,
                pages=self._pages,
                recent=self._recent,
                instance=settings.instance_id,
                metrics=metrics_route(registry),
                asyncapi=self._asyncapi,
                console_url=settings.console_url,
                gate=self._gate,
                redactor=settings.redactor(),
            ),
            settings.host,
            settings.port,
            max_body=65_536,
            tls=self._gate.handshakes,
        )

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

    # -- health ---------------------------------------------------------------------------------

    def health(self) -> Health:
        """Return the complete health, from what this process knows without asking any server."""
        engine, readings = self._engine, self._listening.readings
        intake, manager = engine.pipeline.intake, engine.manager
        routes = engine.paused_routes()
        pausing = engine.pipeline.work.pausing
        in_hand = intake.count - engine.pipeline.standby.count - sum(pausing.values()) - intake.order.waiting
        effects = self._listening.effects
        hosts = self._paused_hosts()
        stuck_for = self._progress.stuck_for(in_hand, engine.oldest_age())
        limit = max(self._settings.stuck_after, 2 * self._settings.handle_timeout)
        able = (
            Check("running", self._listening.phase == "running", f"the listener is {self._listening.phase}"),
            Check("source", all(one.reader.connected for one in readings), self._of_each("error")),
            Check("reading", not any(one.reader.paused and not one.held for one in readings), self._of_each("paused")),
            Check("handler", engine.same_handler, manager.agreement.why_not()),
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
            "redis_remembers_seconds": engine.remembers_seconds,
            "standing_by": engine.pipeline.standby.count,
            "events_pausing": sum(pausing.values()),
            "routes": pausing,
            "routes_paused": routes,
            "effects": {"waiting": effects.waiting, "oldest_seconds": effects.oldest_seconds, "hosts_paused": hosts},
            "pauses": [msgspec.to_builtins(one) for one in engine.pausing.held],
            "sources": [one.picture() for one in readings],
            "letters": self._shipping.shown(),
            "loop_lag_seconds": round(self._lag.seconds, 3),
            "since": self._changes.since(),
            "changes": [msgspec.to_builtins(one) for one in self._changes.lately()],
        }
        cause = f" ({engine.redis_breaker.why})" if engine.redis_breaker.is_open else ""
        remarks = [f"degraded: claims are kept in PostgreSQL, without Redis{cause}"] if manager.degraded else []
        if engine.remembers_seconds < self._settings.dedup_window:
            remarks.append(
                f"Redis has little room: settled events are remembered for {engine.remembers_seconds:,.0f} s instead "
                f"of {self._settings.dedup_window:,.0f} s (DEDUP_WINDOW); PostgreSQL knows the others"
            )
        remarks += [f"the route {route} pauses, and its events wait: {why}" for route, why in routes.items()]
        remarks += [f"effects for {host} wait: {why}" for host, why in hosts.items()]
        remarks += [self._remark_on(one) for one in engine.pausing.held]
        remarks += filter(None, [self._shipping.remark()])
        remarks += (*self._changes.remarks(), *manager.peer_warnings, *self._gate.remarks())
        return Health(self._settings.instance_id, (), able, facts, tuple(remarks))

    def _paused_hosts(self) -> dict[str, str]:
        """Return which receivers of effects pause, and why. Their text may quote a payload."""
        redactor = self._settings.redactor()
        return {host: redactor.unknown(masked(why)) for host, why in self._listening.effects.paused.items()}

    def _remark_on(self, pause: Pause) -> str:
        """A pause in words, and which sources are read on nevertheless."""
        read_on = [one.source.name for one in self._listening.readings if not one.source.resumes]
        beside = f"; it reads {', '.join(read_on)} on, which would not send again" if read_on else ""
        return f"the {pause.kind} {pause.name} is {pause}{beside if pause.kind == 'listener' else ''}"

    def _of_each(self, what: Literal["error", "paused"]) -> str:
        """Return what readers report, with the names of their sources if there are several."""
        readings = self._listening.readings
        said = [(one.source.name, text) for one in readings if (text := getattr(one.reader, what))]
        return "; ".join(text if len(readings) == 1 else f"{name}: {text}" for name, text in said)

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
