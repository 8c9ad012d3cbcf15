"""Gauges of a listener's present state. They are computed at each scrape, and cost nothing in between."""

import time
from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unlost.listener.app.engine import Engine
from unlost.listener.app.reading import SourceReading
from unlost.listener.pipeline.effect_delivery import EffectDelivery


class EngineGauges(Collector):
    """Reads an engine at each scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges with their present values."""
        engine = self._engine
        intake, pipeline = engine.pipeline.intake, engine.pipeline
        unsettled = sum([inlet.watermark.waiting for inlet in pipeline.inlets])
        for name, about, value in (
            ("in_memory_events", "Events in memory", intake.count),
            ("in_memory_bytes", "Bytes of events in memory", intake.size),
            ("claims_held", "Claims that this process holds", len(engine.manager.leases)),
            ("redis_remembers_seconds", "For how long Redis remembers settled events", engine.remembers_seconds),
            ("standing_by", "Events that wait for another owner", pipeline.standby.count),
            ("oldest_unsettled_seconds", "Age of the oldest event in memory, 0 without one", engine.oldest_age()),
            ("unsettled_positions", "Positions behind the cursor", unsettled),
            ("handlers_differ", "1 while a live peer has another handler", not engine.same_handler),
        ):
            yield GaugeMetricFamily(f"unlost_{name}", about, value=float(value))
        about = "Events that wait for another attempt, or for their route"
        pausing = GaugeMetricFamily("unlost_events_pausing", about, labels=["route"])
        for route, count in pipeline.work.pausing.items():
            pausing.add_metric([route], float(count))
        yield pausing
        paused = GaugeMetricFamily(
            "unlost_pause_seconds", "Age of a pause that a person ordered", labels=["kind", "name"]
        )
        for one in engine.pausing.held:
            paused.add_metric([one.kind, one.name], max(0.0, time.time() - one.since))
        yield paused
        shards = GaugeMetricFamily("unlost_shards", "How many shards there are", labels=["base", "number"])
        if (shard := engine.shard) is not None:
            shards.add_metric([shard.base, str(shard.number)], float(shard.total))
        yield shards


class EffectGauges(Collector):
    """Reads the delivery of effects at each scrape."""

    def __init__(self, effects: EffectDelivery) -> None:
        self._effects = effects

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield how many effects of the group wait, as seen lately."""
        for name, about, value in (
            ("effects_waiting", "Effects of the group that are not delivered yet, up to 10,000", self._effects.waiting),
            ("effects_oldest_seconds", "Age of the oldest effect that waits", self._effects.oldest_seconds),
        ):
            yield GaugeMetricFamily(f"unlost_{name}", about, value=float(value))


class SourceGauges(Collector):
    """Reads the sources of a listener at each scrape."""

    def __init__(self, readings: Sequence[SourceReading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Yield what is known of each source, by its name."""
        connected = GaugeMetricFamily("unlost_source_connected", "1 while the source is connected", labels=["source"])
        paused = GaugeMetricFamily("unlost_reading_paused", "1 while reading the source is paused", labels=["source"])
        unsettled = GaugeMetricFamily(
            "unlost_source_unsettled_events", "Events received from the source and not settled yet", labels=["source"]
        )
        lag = GaugeMetricFamily(
            "unlost_source_lag_seconds", "Age of the oldest event of the source that is not settled", labels=["source"]
        )
        messages = CounterMetricFamily("unlost_source_messages", "Messages taken from the source", labels=["source"])
        for one in self._readings:
            name = [one.source.name]
            connected.add_metric(name, float(one.reader.connected))
            paused.add_metric(name, float(bool(one.reader.paused) and not one.held))
            unsettled.add_metric(name, float(one.inlet.watermark.waiting))
            lag.add_metric(name, one.lag_seconds)
            messages.add_metric(name, float(one.reader.messages))
        yield from (connected, paused, unsettled, lag, messages)
