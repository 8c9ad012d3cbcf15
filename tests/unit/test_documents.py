"""Documents hold together: links lead to files and headings, on GitHub as in the site that `make docs` builds."""

from pathlib import Path

import pytest

from tests.support.markdown import anchors, crowded_lists, links, slug

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "llms.txt"])
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_every_link_leads_to_a_file_and_to_a_heading_of_it(page: Path):
    inner = [link for link in links(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in inner if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_file() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


@each_page
def test_a_list_begins_after_an_empty_line(page: Path):
    assert crowded_lists(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Change the handler", "change-the-handler"),
        ("unlost drill --compose", "unlost-drill---compose"),
        ("What is it? 1, 2 and `3`", "what-is-it-1-2-and-3"),
        ("Größe_x", "größe_x"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str):
    assert slug(heading.replace("`", "")) == anchor


def test_a_heading_that_comes_again_is_counted():
    assert anchors("# One\n\ntext\n\n## One\n\n```\n# no heading\n```\n") == {"one", "one-1"}


def test_code_holds_no_links():
    page = "`[a](b)` [c](d.md#e) ![f](g.png)\n\n```\n[h](i)\n```\n"
    assert list(links(page)) == ["d.md#e", "g.png"]


def test_a_list_after_a_line_of_text_is_found():
    assert crowded_lists("text\n- one\n- two\n\ntext\n\n- one\n  1. two\n") == [2]
