"""The pictures of dashboards: numbers formatted like Grafana's, round axes, and every kind of panel."""

import xml.etree.ElementTree as ET

import pytest

from grafana.pictures.__main__ import PICTURES
from grafana.pictures.drawn import KINDS, drawn
from grafana.pictures.queried import DASHBOARDS, Board, DrillMark, Panel, Series, worded
from grafana.pictures.scale import ticks, written
from tests.unit.ops.test_links import BOARDS


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"), (0.0042, "s", "4.2 ms"), (90, "s", "1.5 mins"), (7200, "s", "2 hours"),
        (0.993, "percentunit", "99.3%"),
        (1536, "bytes", "1.5 KiB"), (12_345, "short", "12.3 K"), (120, "ops", "120 ops/s"),
        (float("nan"), "short", "no value"),
    ],
)  # fmt: skip
def test_numbers_are_written_with_their_unit(value: float, unit: str, text: str):
    assert written(value, unit) == text


@pytest.mark.parametrize("highest", [0, 1e-6, 0.3, 1, 7, 99, 1_234_567])
@pytest.mark.parametrize("base", [10, 60, 1024])
def test_an_axis_begins_at_0_and_ends_not_below_the_highest(highest: float, base: float):
    found = ticks(highest, base=base)
    assert found[0] == 0
    assert found[-1] >= highest
    assert 2 <= len(found) <= 8


def test_legends_name_the_labels():
    assert worded("{{name}} {{instance}}", {"name": "redis", "instance": "a"}) == "redis a"


@pytest.mark.parametrize("name", [path.stem for path in DASHBOARDS.glob("*.json") if path.stem != "runbook"])
def test_the_pictures_in_the_documents_show_every_panel_that_there_is(name: str):
    texts = {element.text for element in ET.parse(PICTURES / f"dashboard-{name}.svg").iter()}
    missing = {panel["title"] for panel in BOARDS[name]["panels"]} - texts
    assert missing == set(), "run: python -m grafana.pictures"


@pytest.mark.parametrize("name", [path.stem for path in DASHBOARDS.glob("*.json") if path.stem != "runbook"])
@pytest.mark.parametrize("points", [(), ((100.0, 0.0), (101.0, 1.0), (150.0, 1.0))], ids=["empty", "some"])
def test_every_dashboard_is_drawn_whole(name: str, points: tuple[tuple[float, float], ...]):
    defined = BOARDS[name]
    series = (Series("0.5", points), Series("+Inf", points)) if points else ()
    panels = tuple(Panel(one, series) for one in defined["panels"])
    marks = (DrillMark("Damage", "red", "Damage: <all>", 110.0, 120.0),)
    picture = drawn(Board(defined["title"], panels, marks, 100.0, 200.0))
    texts = {element.text for element in ET.fromstring(picture).iter() if element.text}
    assert {panel["title"] for panel in defined["panels"]} <= texts
    assert {panel["type"] for panel in defined["panels"]} <= set(KINDS)
    assert ("No data" in texts) is (not points)
