"""The export of a listener by OpenTelemetry, if its environment asks for it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry

from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.in_flight import InFlight
from unlost.ops.kit.telemetry.otel.starting import telemetry_of

if TYPE_CHECKING:
    from unlost.listener.observe.traces import Traces

SERVICE = "unlost-listener"


class Exporting:
    """Traces and metrics of one listener. If nothing is exported, there is nothing but this object."""

    def __init__(
        self,
        settings: ListenerSettings,
        registry: CollectorRegistry,
        find: Callable[[str], InFlight | None],
        log: Any,
        *,
        whole_process: bool,
    ) -> None:
        """``find`` returns an event in memory. ``whole_process``: the process is the listener's own."""
        attributes = {"service.instance.id": settings.instance_id, "unlost.group": settings.group}
        self._telemetry = telemetry_of(SERVICE, attributes, registry, log)
        self.traces: Traces | None = None
        if self._telemetry is not None and self._telemetry.provider is not None:
            from unlost.listener.observe import traces

            self.traces = traces.Traces(
                self._telemetry.provider, self._telemetry.ids, find, group=settings.group,
                instance=settings.instance_id, redactor=settings.redactor(),
            )  # fmt: skip
            if whole_process:
                self._telemetry.serve_whole_process()

    async def run(self) -> None:
        """Export metrics until cancelled."""
        if self._telemetry is not None:
            await self._telemetry.run()

    async def close(self) -> None:
        """Export what is left."""
        if self.traces is not None:
            self.traces.close()
        if self._telemetry is not None:
            await self._telemetry.close()
