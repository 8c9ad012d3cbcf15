"""All links lead somewhere: between pages, from alerts and dashboards to the runbook, and among dashboards."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from grafana.prometheus import RULES

ROOT = RULES.parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json"))}
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Anchors as GitHub derives them from headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def broken(page: Path, link: str) -> str | None:
    """Why this link leads nowhere, or None. Links to other sites are not checked."""
    if re.match(r"(https?|mailto):", link):
        return None
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return f"{page.name}: there is no {link}"
    if anchor and anchor not in anchors(target):
        return f"{page.name}: {target.name} has no heading {anchor!r}"
    return None


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    yield from LINK.findall(text)


def test_every_link_of_every_page_leads_somewhere():
    found = [(page, link) for page in PAGES for link in links(page)]
    assert len(found) > 50
    assert [why for page, link in found if (why := broken(page, link))] == []


@pytest.mark.parametrize("link", ["no-such.md", "README.md#no-such-heading", "#no-such-heading"])
def test_a_link_that_leads_nowhere_is_noticed(link: str):
    assert broken(ROOT / "README.md", link)


def test_every_alert_leads_to_its_heading_in_the_runbook():
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    alerts = [rule for group in groups for rule in group["rules"]]
    assert len(alerts) > 20
    for alert in alerts:
        link = alert["annotations"]["runbook"]
        assert link == f"docs/runbook.md#{alert['alert'].lower()}"
        assert broken(ROOT / "README.md", link) is None


def test_dashboards_lead_to_each_other_and_to_the_runbook():
    uids = {board["uid"] for board in BOARDS.values()}
    assert len(uids) == len(BOARDS)
    for board in BOARDS.values():
        together, runbook = board["links"]
        assert (together["type"], together["tags"]) == ("dashboards", ["unlost"])
        assert set(together["tags"]) <= set(board["tags"]), "the page would not be in the list itself"
        assert runbook["url"].removeprefix("/d/") in uids


def test_dashboards_that_the_runbook_and_other_pages_name_exist():
    titles = {board["title"].removeprefix("Unlost: ") for board in BOARDS.values()}
    named = [name for page in PAGES for name in re.findall(r"dashboard \*(\w+)\*", page.read_text())]
    assert named
    assert set(named) <= titles
    panels = {panel["title"] for board in BOARDS.values() for panel in board["panels"]}
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    quoted = re.findall(r'"([A-Z][^"\n]+)"', runbook)
    assert quoted
    assert set(quoted) <= panels
