"""The README describes every setting correctly."""

from pathlib import Path

from unlost.ops.generate.settings_page import tables

README = Path(__file__).parents[2] / "README.md"


def test_the_settings_in_the_readme_are_those_of_the_code():
    assert tables() in README.read_text(), (
        "paste the output of `python -m unlost.ops.generate.settings_page` between the settings marks"
    )
