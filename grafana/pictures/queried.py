"""The data that each panel of a dashboard would show: its own queries, sent as Grafana sends them."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from grafana.prometheus import Prometheus

DASHBOARDS = Path(__file__).parents[1] / "dashboards"
STEPS = 150
RATE_INTERVAL = "15s"
LISTENERS = "count by (instance) (count_over_time(unlost_claims_held[10m]))"
STALE = 2.5
"""Samples more than so many steps apart are not joined."""


class Series(msgspec.Struct, frozen=True):
    """One series with its legend."""

    legend: str
    points: tuple[tuple[float, float], ...]

    @property
    def last(self) -> float:
        """The latest value."""
        return self.points[-1][1]


class Panel(msgspec.Struct, frozen=True):
    """A panel's definition and the results of its queries."""

    defined: dict[str, Any]
    series: tuple[Series, ...]


class DrillMark(msgspec.Struct, frozen=True):
    """A span that the dashboard marks."""

    name: str
    color: str
    words: str
    begins: float
    ends: float


class Board(msgspec.Struct, frozen=True):
    """One dashboard with all its data from ``since`` to ``until``."""

    title: str
    panels: tuple[Panel, ...]
    marks: tuple[DrillMark, ...]
    since: float
    until: float


class Span(msgspec.Struct, frozen=True):
    """The range of the queries: time, step, and listeners."""

    since: float
    until: float
    step: float
    instances: str


def boards(prometheus: Prometheus, since: float, until: float) -> dict[str, Board]:
    """Return every dashboard that shows data, by the name of its file."""
    found = {}
    for path in sorted(DASHBOARDS.glob("*.json")):
        defined = json.loads(path.read_text())
        if any(panel.get("targets") for panel in defined["panels"]):
            found[path.stem] = _board(defined, prometheus, since, until)
    return found


def chosen(expression: str, instances: str = ".+") -> str:
    """Expand an expression's variables as Grafana does if all listeners are selected."""
    return expression.replace("$__rate_interval", RATE_INTERVAL).replace("$instance", instances)


def _board(defined: dict[str, Any], prometheus: Prometheus, since: float, until: float) -> Board:
    instances = "|".join(one["metric"]["instance"] for one in prometheus.query(LISTENERS))
    span = Span(since, until, max(1.0, (until - since) / STEPS), instances)
    panels = tuple(Panel(one, tuple(_series(one, prometheus, span))) for one in defined["panels"])
    marks = [
        mark
        for annotation in defined["annotations"].get("list", ())
        if "expr" in annotation
        for mark in _marks(annotation, prometheus, since, until)
    ]
    return Board(defined["title"], panels, tuple(marks), since, until)


def _series(panel: dict[str, Any], prometheus: Prometheus, span: Span) -> Iterator[Series]:
    for target in panel.get("targets", ()):
        expression = chosen(target["expr"], span.instances)
        if target.get("instant"):
            result = prometheus.get("query", query=expression, time=str(span.until))["result"]
            rows = [(one["metric"], [one["value"]]) for one in result]
        else:
            step = max(span.step, 5.0) if panel["type"] == "heatmap" else span.step
            answer = prometheus.get(
                "query_range", query=expression, start=str(span.since), end=str(span.until), step=str(step)
            )
            rows = [(one["metric"], one["values"]) for one in answer["result"]]
        for labels, values in rows:
            points = tuple((at, float(value)) for at, value in values if math.isfinite(float(value)))
            if points:
                yield Series(worded(target.get("legendFormat", ""), labels), points)


def _marks(annotation: dict[str, Any], prometheus: Prometheus, since: float, until: float) -> Iterator[DrillMark]:
    """Yield marks; samples close to each other make one span."""
    found = prometheus.get("query_range", query=annotation["expr"], start=str(since), end=str(until), step="1")
    for one in found["result"]:
        words = worded(annotation.get("titleFormat", ""), one["metric"])
        begins = ends = one["values"][0][0]
        for at, _ in one["values"][1:]:
            if at - ends > 2 * STALE:
                yield DrillMark(annotation["name"], annotation["iconColor"], words, begins, ends)
                begins = at
            ends = at
        yield DrillMark(annotation["name"], annotation["iconColor"], words, begins, ends)


def worded(template: str, labels: dict[str, str]) -> str:
    """Return the legend of a series."""
    if template in ("", "__auto"):
        return ", ".join(f"{name}={value}" for name, value in labels.items() if name != "__name__")
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template)
