"""Which drill runs now, as the drill itself reports it: shown in the overview, and as metrics for dashboards.

A mark expires after some seconds and is renewed while its drill runs. So a killed drill leaves no mark behind.
"""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

LIFE = 15.0
MOST_NAMES = 100
Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,39}$")]


class DrillReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a drill: ``damaged`` from the first fault until everything is repaired."""

    drill: Name
    state: Literal["running", "damaged", "ended"]


class TooManyDrills(Exception):
    """Too many different names of drills: a metric's label must have few values."""

    def __init__(self) -> None:
        super().__init__(f"{MOST_NAMES} drills have been reported already; restart the console to forget them")


class Drills(Collector):
    """The last report of each drill, until it expires."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[str, tuple[str, float]] = {}
        registry.register(self)

    def note(self, report: DrillReport) -> None:
        """Store a mark, or renew it."""
        if report.drill not in self._states and len(self._states) >= MOST_NAMES:
            raise TooManyDrills
        self._states[report.drill] = (report.state, self._clock())

    def now(self) -> dict[str, str]:
        """Each drill that has been reported to this console, with its state."""
        now = self._clock()
        return {name: state if now - at < LIFE else "ended" for name, (state, at) in self._states.items()}

    def running(self) -> list[dict[str, str]]:
        """The drills that run now."""
        return [{"drill": name, "state": state} for name, state in self.now().items() if state != "ended"]

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name the metrics, so that registering them twice is refused."""
        yield from self._families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return two gauges for each drill."""
        running, damage = self._families()
        for name, state in self.now().items():
            running.add_metric((name,), float(state != "ended"))
            damage.add_metric((name,), float(state == "damaged"))
        yield from (running, damage)

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("unlost_drill_running", "1 from the start of a drill to its end", labels=("drill",)),
            GaugeMetricFamily("unlost_drill_damage", "1 from a drill's damage to its healing", labels=("drill",)),
        )
