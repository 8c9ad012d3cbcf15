"""axe-core looks at a page as it is shown: what it finds serious or critical is a mistake of the page."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.npm import installed

SOURCE = Path(__file__).parent / "axe"
RUN = """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
    resultTypes: ["violations"]})).violations.filter(one => ["serious", "critical"].includes(one.impact))
    .map(one => `${one.id}: ${one.nodes.slice(0, 3).map(node => node.html.slice(0, 160)).join(" | ")}`)"""


class Axe:
    """Runs axe-core in a page. The page's policy refuses foreign scripts, so it comes by the browser's own protocol."""

    def __init__(self, script: str) -> None:
        self._script = script

    def findings(self, page: Page) -> list[Any]:
        """The serious and critical findings on this page now."""
        if not page.evaluate("typeof axe !== 'undefined'"):
            page.evaluate(self._script)
        found: list[Any] = page.evaluate(RUN)
        return found


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> Axe:
    """axe-core, as npm installs it."""
    directory = installed(SOURCE, tmp_path_factory.mktemp("axe"))
    return Axe((directory / "node_modules" / "axe-core" / "axe.min.js").read_text())
