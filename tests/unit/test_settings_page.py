"""The page of settings shows every setting as it is."""

from pathlib import Path

from unlost.ops.generate.settings_page import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_the_page_is_what_the_code_says() -> None:
    assert page() == PAGE.read_text(), "run: make reference"
