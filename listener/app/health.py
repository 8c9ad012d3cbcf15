"""The health of a listener: what it can do, its state in figures, and what people should know. It asks no server."""

from typing import Any, Literal

import msgspec

from unlost.listener.app.listening import Listening
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.app.shipping import Shipping
from unlost.listener.core.pause import Pause
from unlost.listener.observe.changes import Changes
from unlost.listener.observe.progress import Progress
from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.metrics import LoopLag


class ListenerHealth:
    """Knows all parts of a listener that may fail."""

    def __init__(
        self,
        settings: ListenerSettings,
        listening: Listening,
        *,
        shipping: Shipping,
        changes: Changes,
        progress: Progress,
        gate: Gate,
        lag: LoopLag,
    ) -> None:
        self._settings = settings
        self._listening = listening
        self._engine = listening.engine
        self._shipping = shipping
        self._changes = changes
        self._progress = progress
        self._gate = gate
        self._lag = lag

    def now(self) -> Health:
        """Return the complete health."""
        return Health(self._settings.instance_id, (), self._able(), self._figures(), tuple(self._remarks()))

    def _able(self) -> tuple[Check, ...]:
        engine, readings = self._engine, self._listening.readings
        intake, manager = engine.pipeline.intake, engine.manager
        pausing = engine.pipeline.work.pausing
        in_hand = intake.count - engine.pipeline.standby.count - sum(pausing.values()) - intake.order.waiting
        stuck_for = self._progress.stuck_for(in_hand, engine.oldest_age())
        limit = max(self._settings.stuck_after, 2 * self._settings.handle_timeout)
        return (
            Check("running", self._listening.phase == "running", f"the listener is {self._listening.phase}"),
            Check("source", all(one.reader.connected for one in readings), self._of_each("error")),
            Check("reading", not any(one.reader.paused and not one.held for one in readings), self._of_each("paused")),
            Check("handler", engine.same_handler, manager.agreement.why_not()),
            Check("claims", manager.open, manager.why_closed()),
            Check("storing", not engine.pipeline.store_watch.error, engine.pipeline.store_watch.error),
            Check("dead_letters", not engine.pipeline.settling.error, engine.pipeline.settling.error),
            Check("progress", stuck_for < limit, f"nothing in hand has moved for {stuck_for:.0f} s"),
        )

    def _figures(self) -> dict[str, Any]:
        engine, manager, effects = self._engine, self._engine.manager, self._listening.effects
        pausing, hosts = engine.pipeline.work.pausing, self._paused_hosts()
        return {
            "phase": self._listening.phase,
            "handler": self._settings.handler_name,
            "mode": "degraded" if manager.degraded else "normal",
            "places": sorted(manager.leases.places),
            "breakers": {b.name: b.state for b in (engine.redis_breaker, engine.store_breaker)},
            "breaker_causes": {b.name: b.why for b in (engine.redis_breaker, engine.store_breaker) if b.is_open},
            "peer_warnings": list(manager.peer_warnings),
            "in_memory": engine.pipeline.intake.count,
            "claims_held": len(manager.leases),
            "redis_remembers_seconds": engine.remembers_seconds,
            "standing_by": engine.pipeline.standby.count,
            "events_pausing": sum(pausing.values()),
            "routes": pausing,
            "routes_paused": engine.paused_routes(),
            "effects": {"waiting": effects.waiting, "oldest_seconds": effects.oldest_seconds, "hosts_paused": hosts},
            "pauses": [msgspec.to_builtins(one) for one in engine.pausing.held],
            "sources": [one.picture() for one in self._listening.readings],
            "letters": self._shipping.shown(),
            "loop_lag_seconds": round(self._lag.seconds, 3),
            "since": self._changes.since(),
            "changes": [msgspec.to_builtins(one) for one in self._changes.lately()],
        }

    def _remarks(self) -> list[str]:
        engine, manager = self._engine, self._engine.manager
        cause = f" ({engine.redis_breaker.why})" if engine.redis_breaker.is_open else ""
        remarks = [f"degraded: claims are kept in PostgreSQL, without Redis{cause}"] if manager.degraded else []
        if engine.remembers_seconds < self._settings.dedup_window:
            remarks.append(
                f"Redis has little room: settled events are remembered for {engine.remembers_seconds:,.0f} s instead "
                f"of {self._settings.dedup_window:,.0f} s (DEDUP_WINDOW); PostgreSQL knows the others"
            )
        remarks += [
            f"the route {route} pauses, and its events wait: {why}" for route, why in engine.paused_routes().items()
        ]
        remarks += [f"effects for {host} wait: {why}" for host, why in self._paused_hosts().items()]
        remarks += [self._remark_on(one) for one in engine.pausing.held]
        remarks += filter(None, [self._shipping.remark()])
        remarks += (*self._changes.remarks(), *manager.peer_warnings, *self._gate.remarks())
        return remarks

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
