"""The page of the five seeds names files and tests that exist, and a test for each feature."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "seeds.md"
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| feature")]
LINK = re.compile(r"\]\(([^)#]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`$")


def functions_in(path: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {one.name for one in ast.walk(ast.parse(path.read_text())) if isinstance(one, kinds)}


def test_all_five_are_there() -> None:
    assert re.findall(r"^## (\d{3}):", PAGE.read_text(), re.MULTILINE) == ["000", "001", "002", "003", "004"]
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_each_feature_names_where_it_is_and_a_test_that_exists(row: str) -> None:
    _, _, where, test, _ = (part.strip() for part in row.split("|"))
    places = LINK.findall(where)
    assert places
    assert [place for place in places if not (PAGE.parent / place).exists()] == []
    found = TEST.match(test)
    assert found, test
    assert found[2] is None or found[2] in functions_in(ROOT / found[1])
