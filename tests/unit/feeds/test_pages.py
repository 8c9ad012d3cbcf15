"""The page of profiles shows every key as it is, and the guide's profile and class do what it says."""

import re
from pathlib import Path
from typing import Any

from unlost.listener.source.feed.loading import parse
from unlost.ops.generate.profile_page import page
from unlost.testing import TestFeed

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_what_the_code_says() -> None:
    assert page() == (DOCS / "reference" / "profiles.md").read_text(), "run: make reference"


def test_the_guide(tmp_path: Path) -> None:
    guide = (DOCS / "how-to" / "connect-a-feed.md").read_text()
    profile, backfill = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)
    assert parse(profile + backfill, "feed.toml", {}).profile.backfill is not None
    assert parse(profile, "feed.toml", {}).profile.type == "type"
    written = tmp_path / "feed.toml"
    written.write_text(profile)
    names: dict[str, Any] = {}
    its_class, its_test = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(its_class, names)
    orders = TestFeed(names["Orders"]())
    found = [one.what for one in orders.read('{"op":"ping"}', '{"op":"made","number":1}', '{"op":"made"}', "x")]
    assert found == ["sent", "control", "event", "invalid", "invalid"]
    exec(its_test.replace('"feed.toml"', repr(str(written))), {})
