"""Metrics, rules and dashboards with a real Prometheus that scrapes a system under load and in trouble."""

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from prometheus_client import Metric as PrometheusMetric
from prometheus_client.parser import text_string_to_metric_families

from grafana.prometheus import RULES, Prometheus, running_prometheus
from tests.support.needed import needed
from tests.support.system import running_system
from unlost.ops.faults.drills.catalogue import DRILLS
from unlost.ops.faults.drills.local_stage import LocalStage
from unlost.ops.faults.drills.runner import observe
from unlost.ops.faults.drills.stage import Stage
from unlost.ops.faults.drills.traffic import Traffic
from unlost.ops.generate.metrics_page import OF_CONSOLE, OF_LISTENER, OF_PRODUCER, Metric
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.system import System

DASHBOARDS = Path(__file__).parents[3] / "grafana" / "dashboards"
RECORDED = set(re.findall(r"- record: (\S+)", (RULES / "rules.yml").read_text()))
TOLD = {one.name: one for one in OF_LISTENER + OF_PRODUCER + OF_CONSOLE}
OF_PROMETHEUS = {"job", "instance", "le"}
pytestmark = pytest.mark.timeout(180)


class Watched(NamedTuple):
    system: System
    prometheus: Prometheus


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """Two listeners with a handler that fails for some events, a producer under load, and a Prometheus."""
    program = needed("prometheus", package="prometheus")
    settings: dict[str, Any] = {
        "HANDLER": "unlost.ops.faults.drills.handlers:record",
        "DRILL_RUNS": str(tmp_path / "runs"),
        "PROCESS_DELAY": "0.1",
    }
    with (
        running_system(console=True, lease="5", **settings) as system,
        running_prometheus(program, tmp_path, system.layout) as prometheus,
    ):
        yield Watched(system, prometheus)


@contextlib.contextmanager
def load(url: str) -> Iterator[None]:
    """Publish batches until the block ends. One event in each batch fails at every attempt."""
    ended = threading.Event()

    def publish() -> None:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            for number in count():
                if ended.wait(0.1):
                    return
                kinds = ["fail" if number < 5 else ""] + [""] * 19
                lines = [{"event_id": f"load-{number}-{i}", "payload": {"drill": k}} for i, k in enumerate(kinds)]
                client.post("/publish/batch", content="\n".join(map(json.dumps, lines))).raise_for_status()

    thread = threading.Thread(target=publish, name="load")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_metrics_rules_and_dashboards_are_true_of_a_running_system(watched: Watched) -> None:
    """One test, because the system takes longer to start than all checks together."""
    layout = watched.system.layout
    with load(layout.producer_url):
        watched.prometheus.wait_until('sum(unlost_dead_letters_unresolved{reason="exhausted"}) > 0')
        see_that_a_process_shows_what_is_told_of_it(one_with_a_letter(watched), OF_LISTENER)
        see_that_a_process_shows_what_is_told_of_it(layout.producer_url, OF_PRODUCER)
        see_that_every_rule_can_be_evaluated(watched.prometheus)
        see_that_every_panel_has_data(watched.prometheus)
    see_a_process_start(watched)
    asyncio.run(see_what_a_drill_looks_like(watched))
    see_that_a_process_shows_what_is_told_of_it(str(layout.console_url), OF_CONSOLE)


def see_a_process_start(watched: Watched) -> None:
    """A newly started process. The others may have been up for too long when they were first scraped."""
    child = watched.system.listeners[-1]
    child.stop()
    child.start()
    watched.prometheus.wait_until("count(time() - process_start_time_seconds < 10) > 0")
    watched.prometheus.wait_until(
        "count(unlost_source_connected == 1 and on (job, instance) unlost_claiming_open == 1) == 2"
    )


def one_with_a_letter(watched: Watched) -> str:
    """A listener with all its series: fingerprints have series only while letters wait."""
    asked = "unlost_dead_letters_unresolved_by_fingerprint"
    watched.prometheus.wait_until(asked)
    name = watched.prometheus.query(asked)[0]["metric"]["instance"]
    layout = watched.system.layout
    return dict(zip(layout.listener_names, layout.listener_urls, strict=True))[name]


def name_of(family: PrometheusMetric) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


def see_that_a_process_shows_what_is_told_of_it(url: str, reported: tuple[Metric, ...]) -> None:
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    labels = {one.name: set(one.labels) for one in reported}
    shown = {
        name_of(family): (
            family.type,
            # Without a handler there is no route, and a route has series only then. Nobody is notified, either.
            {label for sample in family.samples for label in sample.labels} - {"le"}
            if family.samples
            else labels[name_of(family)],
        )
        for family in text_string_to_metric_families(text)
        if family.name.startswith("unlost_") and not family.name.endswith("_created")
    }
    assert shown == {one.name: (one.kind, set(one.labels)) for one in reported}


def see_that_every_rule_can_be_evaluated(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]

    prometheus.wait(lambda: all(rule["health"] != "unknown" for rule in rules()))
    assert {rule["name"]: rule.get("lastError") for rule in rules() if rule["health"] != "ok"} == {}
    assert len(rules()) > 30
    for rule in rules():
        check_names(rule["query"])


def panels() -> Iterator[tuple[str, str]]:
    """Every expression of every panel, with the titles of dashboard and panel."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.stem}: {panel['title']}", target["expr"]


def chosen(expression: str) -> str:
    """The expression as Grafana sends it when all listeners are selected."""
    return expression.replace("$__rate_interval", "15s").replace("$instance", ".+")


def see_that_every_panel_has_data(prometheus: Prometheus) -> None:
    assert len(list(panels())) > 50
    for name, expression in panels():
        check_names(expression)
        asked = chosen(expression)
        try:
            prometheus.wait(lambda asked=asked: any(one["value"][1] != "NaN" for one in prometheus.query(asked)))  # type: ignore[misc]
        except ChildFailed:
            pytest.fail(f"no data for {name}: {expression}")


async def see_what_a_drill_looks_like(watched: Watched) -> None:
    """A real drill. Its damage lasts until everything was checked; then the marks that it left are checked."""

    async def look(stage: Stage) -> None:
        await asyncio.to_thread(see_what_the_loss_of_redis_looks_like, watched.prometheus)

    drill = replace(DRILLS["redis-stopped"], during=look)
    began = time.time()
    stage = LocalStage(watched.system, drill, None)
    observed = await observe(drill, stage, Traffic("drilled-", 600, 100), lambda _: None)
    assert (observed.published, observed.lost, observed.errors) == (600, 0, ())
    see_the_marks_of(drill.name, began, watched.prometheus)


def see_what_the_loss_of_redis_looks_like(prometheus: Prometheus) -> None:
    prometheus.wait_until("count(unlost_degraded == 1) == 2")
    prometheus.wait_until('count(unlost_breaker_open{name="redis"} == 1) == 2')
    prometheus.wait_until("min(rate(unlost_degraded_seconds_total[5s])) > 0.5")
    prometheus.wait_until('count(ALERTS{alertname="UnlostDegradedTooLong", alertstate="pending"}) == 2')
    prometheus.wait_until('sum(increase(unlost_events_total{outcome="stored"}[5s])) > 0')
    prometheus.wait_until('unlost_drill_damage{drill="redis-stopped"} == 1')


def see_the_marks_of(drill: str, began: float, prometheus: Prometheus) -> None:
    """The dashboard's own queries give one span for the drill, and within it one for its damage."""
    prometheus.wait_until(f'unlost_drill_running{{drill="{drill}"}} == 0')
    board = json.loads((DASHBOARDS / "drill.json").read_text())
    marks = {one["name"]: one for one in board["annotations"]["list"]}
    assert set(marks) == {"Drill", "Damage", "Process started"}
    spans = {}
    for name, mark in marks.items():
        check_names(mark["expr"])
        asked = prometheus.get("query_range", query=mark["expr"], start=str(began - 60), end=str(time.time()), step="1")
        assert asked["result"], f"nothing is marked by {mark['expr']}"
        label = mark["titleFormat"].partition("{{")[2].strip("}")
        assert all(label in series["metric"] for series in asked["result"])
        times = [at for at, _ in asked["result"][0]["values"]]
        spans[name] = (asked["result"][0]["metric"].get("drill"), times[0], times[-1], len(times))
    started, ended = spans["Drill"][1:3]
    struck, healed = spans["Damage"][1:3]
    assert spans["Drill"][0] == spans["Damage"][0] == drill
    assert began <= started <= struck < healed <= ended
    assert spans["Drill"][3] == ended - started + 1, "a span without gaps"


@pytest.mark.parametrize(
    "expression",
    [
        "sum(unlost_no_such_total)",
        "1 - unlost:no_such:ratio1h",
        'unlost_events_total{reason="x"}',
        "sum by (reason) (unlost_events_total)",
    ],
)
def test_names_that_do_not_exist_are_noticed(expression: str) -> None:
    with pytest.raises(AssertionError):
        check_names(expression)


SELECTOR = re.compile(r"(?<![\w:])(?P<name>(?:unlost|up|process|unlost:)[\w:]*)\s*(?:\{(?P<labels>[^}]*)\})?")
GROUPED = re.compile(r"\b(?:by|on) \(([\w, ]*)\)")


def check_names(expression: str) -> None:
    """Check that it uses existing metrics, and for each only labels that it has."""
    bare = re.sub(r'"[^"]*"', '""', expression)
    allowed = set(OF_PROMETHEUS)
    found = list(SELECTOR.finditer(GROUPED.sub("", bare)))
    assert found, expression
    for one in found:
        labels = labels_of(one["name"])
        assert labels is not None, f"{one['name']} in {expression}"
        allowed |= labels
        used = {part.split("=")[0].strip("!~ ") for part in (one["labels"] or "").split(",") if part}
        assert used <= labels | OF_PROMETHEUS, f"{one[0]} in {expression}"
    grouped = {label for part in GROUPED.findall(bare) for label in part.replace(" ", "").split(",") if label}
    assert grouped <= allowed, f"{grouped - allowed} in {expression}"


def labels_of(name: str) -> set[str] | None:
    if name in ("up", "process_start_time_seconds"):
        return set()
    if name in RECORDED:
        return {"outcome"}
    reported = TOLD.get(name) or TOLD.get(re.sub(r"_(bucket|sum|count)$", "", name))
    return None if reported is None else set(reported.labels)
