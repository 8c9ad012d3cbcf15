"""Generated files are up to date. Every alert has its case, and its page in the runbook."""

import json
import re
import subprocess
from pathlib import Path

from grafana.__main__ import written
from grafana.prometheus import RULES
from tests.support.needed import needed
from unlost.ops.generate import openapi_files
from unlost.ops.generate.metrics_page import OF_CONSOLE, OF_LISTENER, OF_PRODUCER, page

ROOT = RULES.parents[2]


def test_the_page_of_metrics_is_up_to_date() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == page(), "run: make reference"


def test_the_dashboards_are_up_to_date() -> None:
    for path, text in written().items():
        assert path.read_text() == text, f"{path.name}: run: make reference"


def test_the_descriptions_of_http_are_up_to_date() -> None:
    for path, text in openapi_files.written().items():
        assert path.read_text() == text, f"{path.name}: run: make reference"


def test_every_path_that_a_server_describes_is_reported():
    page = (ROOT / "docs" / "reference" / "http.md").read_text()
    described = {path: json.loads(text)["paths"] for path, text in openapi_files.written().items()}
    assert len(described) == 3
    shown = page.replace("<id>/cancel", "<replay_id>/cancel")
    missing = [one for paths in described.values() for one in paths if re.sub(r"{(\w+)}", r"<\1>", one) not in shown]
    assert missing == []


OTHERS = {"unlost_app", "unlost_postgres", "unlost_listener", "unlost_console", "unlost_handler"}
"""Names of fixtures for pytest, and of roles in PostgreSQL, which are no metrics."""


def test_every_metric_that_a_page_names_exists():
    known = {one.name for one in OF_LISTENER + OF_PRODUCER + OF_CONSOLE}
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {(path.name, name) for path in pages for name in re.findall(r"\bunlost_[a-z_]*[a-z]\b", path.read_text())}
    assert len(named) > 50
    assert [one for one in named if re.sub(r"_(bucket|sum|count)$", "", one[1]) not in known | OTHERS] == []


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", (RULES / "alerts.yml").read_text())


def test_every_alert_has_a_case_and_a_heading_in_the_runbook() -> None:
    cases = (RULES / "tests.yml").read_text()
    headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert headings == alerts()
    assert [name for name in alerts() if f'alertname="{name}"' not in cases] == []


def test_alerts_fire_when_they_should_and_alone() -> None:
    promtool = needed("promtool", package="prometheus")
    done = subprocess.run([promtool, "test", "rules", "tests.yml"], cwd=RULES, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_is_valid(tmp_path: Path) -> None:
    promtool = needed("promtool", package="prometheus")
    done = subprocess.run(
        [promtool, "check", "config", "--syntax-only", "prometheus.yml"],
        cwd=RULES, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
