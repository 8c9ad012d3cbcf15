"""Debian's Chromium for tests of pages: skipped where it is missing, except in CI."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.needed import needed

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 20_000
"""Milliseconds that a busy machine may take for what is usually there at once."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For one module: Playwright's event loop occupies the thread for as long as it runs, and others need it."""
    path = needed("chromium", package="chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test if its script or its policy complains."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if _is_complaint(told.type, told.text) else None)
    yield page
    context.close()
    assert complaints == []


def _is_complaint(kind: str, text: str) -> bool:
    # A refusal that the page expects (a token is asked for, an event is unknown) is logged by the browser itself.
    return kind in ("error", "warning") and "Failed to load resource" not in text
