"""Blocked keys in the console: their age, the letter that blocks, what is behind it, and what archiving asks."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.end_to_end.console.conftest import BEARER, OWN, Stage, until
from tests.end_to_end.console.test_browser import open_view
from tests.support.browser import browser, page

__all__ = ["browser", "page"]

BEHIND = 2


class Blocked:
    """An account whose first event was refused, and the events behind it."""

    def __init__(self, stage: Stage, account: str) -> None:
        self.stage = stage
        (self.first,) = stage.buried("refused", account=account)
        self.behind = stage.publish("order", BEHIND, account=account)
        until(lambda: self.key()["letters"] == 1 + BEHIND)

    def key(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = self.stage.get("/api/letters/keys")["keys"]
        return next((one for one in found if one["event_id"] == self.first), {"letters": 0})

    def archive(self, **more: str) -> httpx.Response:
        letter = self.stage.letter_of(self.first)["letter_id"]
        body = {"ids": [letter], "why": "a test order", **more}
        return self.stage.client.post("/api/letters/archive", json=body, headers=OWN)

    def is_open(self) -> bool:
        """Whether this letter blocks the key no more."""
        return not self.key()["letters"]

    def follow(self) -> None:
        """Wait until what was parked has followed by itself."""
        until(lambda: all(self.stage.letter_of(one)["state"]["status"] == "resolved" for one in self.behind), 60)


@pytest.fixture
def blocked(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Blocked]:
    one = Blocked(stage, request.node.name)
    yield one
    if not one.is_open():
        one.archive(followers="go")
        until(one.is_open)
        one.follow()


def test_a_blocked_key_is_shown_by_the_console_the_command_and_the_metrics(stage: Stage, blocked: Blocked) -> None:
    assert blocked.key()["reason"] == "rejected"
    assert blocked.key()["since"] > 0
    said = subprocess.run(
        [sys.executable, "-m", "unlost", "dlq", "keys", "--database-url", stage.system.database_url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert re.search(rf": for \d+ s, by {blocked.first} \(rejected Reject\), {BEHIND} behind it", said), said

    def gauges() -> dict[str, float]:
        text = httpx.get(f"{stage.system.layout.listener_urls[0]}/metrics", headers=BEARER, trust_env=False).text
        return {
            name: float(value)
            for name, value in re.findall(r"^(unlost_blocked_key\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE)
        }

    until(lambda: gauges().get("unlost_blocked_keys", 0) >= 1 and gauges()["unlost_blocked_key_seconds"] > 0)


def test_archiving_a_letter_that_blocks_asks_what_happens_to_its_followers(stage: Stage, blocked: Blocked) -> None:
    refused = blocked.archive()
    assert refused.status_code == 400
    assert '"followers" whether they "wait" still, or "go"' in refused.json()["error"]
    assert blocked.archive(followers="wait").json() == {"archived": 1}
    assert blocked.key()["letters"] == 1 + BEHIND, "they wait for the archived letter still"
    stage.post("/api/letters/restore", ids=[stage.letter_of(blocked.first)["letter_id"]])
    assert blocked.archive(followers="go").json() == {"archived": 1}
    until(blocked.is_open)
    blocked.follow()


def test_a_person_finds_the_blocked_key_and_lets_its_followers_go(page: Page, stage: Stage, blocked: Blocked) -> None:
    open_view(page, stage, "waiting")
    row = page.locator("section", has=page.get_by_role("heading", name="Blocked keys")).locator(
        "tr", has_text=blocked.first
    )
    expect(row).to_contain_text(str(BEHIND))
    expect(row).to_contain_text(re.compile(r"\d+ s|just now|ago"))
    row.get_by_role("link", name=blocked.first).click()
    page.get_by_role("button", name="Archive…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("a test order")
    dialog.get_by_label("Later events of the key").select_option("go")
    dialog.get_by_role("button", name="Archive").click()
    expect(page.get_by_role("alert")).to_have_text("1 archived")
    until(blocked.is_open)
    blocked.follow()
