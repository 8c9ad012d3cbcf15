"""Debian's Chromium for tests of pages. Such tests are skipped without it, except in CI."""

import contextlib
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.needed import needed

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 20_000
"""Milliseconds. A busy machine may take this long for what is usually there at once."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser per module: Playwright's event loop occupies the thread, which other tests need."""
    with chromium() as launched:
        yield launched


@contextlib.contextmanager
def chromium(*flags: str) -> Iterator[Browser]:
    """A browser with more flags."""
    path = needed("chromium", package="chromium")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test if a script error or a policy violation is logged."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda shown: complaints.append(shown.text) if _is_complaint(shown.type, shown.text) else None)
    yield page
    context.close()
    assert complaints == []


def _is_complaint(kind: str, text: str) -> bool:
    # The browser itself logs each refusal that the page expects (a token is required, an event is unknown).
    return kind in ("error", "warning") and "Failed to load resource" not in text
