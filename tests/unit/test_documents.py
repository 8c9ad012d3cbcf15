"""Documents hold together: links lead to files and headings, on GitHub as in the site that `make docs` builds."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.markdown import anchors, code, crowded_lists, links, slug

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "llms.txt"])


def of_pages(find: Callable[[Path], Sequence[str | int]]) -> dict[str, Sequence[str | int]]:
    """What is found in pages, by page."""
    return {str(page.relative_to(ROOT)): found for page in PAGES if (found := find(page))}


def test_every_link_leads_to_a_file_and_to_a_heading_of_it():
    assert of_pages(links_that_lead_nowhere) == {}


def links_that_lead_nowhere(page: Path) -> list[str]:
    inner = [link for link in links(page.read_text(encoding="utf-8")) if "://" not in link]
    return [link for link in inner if not leads_somewhere(page, link)]


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_file() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("index", ["llms.txt", "docs/README.md"])
def test_an_index_names_every_page(index: str):
    page = ROOT / index
    named = {(page.parent / link.partition("#")[0]).resolve() for link in links(page.read_text(encoding="utf-8"))}
    left_out = {ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs" / "decisions").glob("0*.md"), page}
    left_out |= {ROOT / "docs" / "README.md"}
    assert [str(one.relative_to(ROOT)) for one in PAGES if one not in named | left_out and one.suffix == ".md"] == []


FOLDERS = ("listener", "producer", "dlq", "ops", "grafana", "tests", "docs")
TREE = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder, *(ROOT / folder).rglob("*"))]
A_PATH = re.compile(rf"(?:unlost/)?(?:{'|'.join(FOLDERS)})/[\w./-]*|[\w./-]+\.(?:py|sql|lua)")
A_NAME = re.compile(r"_*[A-Z]\w*(?:\.\w+)*|\w*[a-z]_\w+")


def paths(text: str) -> list[str]:
    """Of our own files and folders, as a page names them."""
    return [one.removeprefix("unlost/") for one in code(text) if A_PATH.fullmatch(one)]


def exists(path: str) -> bool:
    """A page may leave out the first folders of a path."""
    return any(one.endswith(f"/{path.rstrip('/')}") for one in TREE)


def test_paths_that_a_page_names_exist():
    assert of_pages(paths_that_do_not_exist) == {}


def paths_that_do_not_exist(page: Path) -> list[str]:
    """A changelog names what was there once."""
    named = [] if page.name == "CHANGELOG.md" else paths(page.read_text(encoding="utf-8"))
    return [path for path in named if not exists(path)]


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_names_of_code_that_a_guide_for_contributors_uses_exist(name: str):
    text = "\n".join(path.read_text(encoding="utf-8") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    known = set(re.findall(r"\w+", text))
    spans = [one for one in code((ROOT / name).read_text(encoding="utf-8")) if A_NAME.fullmatch(one)]
    assert len(spans) >= 3
    assert [one for one in spans if not known.issuperset(one.split("."))] == []


A_PLACE = re.compile(r"((?:`\w+`(?:, | and ))*`\w+`)(?: \([^)]*\))?\s+(?:in|of)\s+`([\w./-]+\.py)`")


def places(text: str) -> list[tuple[str, str]]:
    """Each name with the file in which a page says that it stands."""
    return [(name, path) for names, path in A_PLACE.findall(text) for name in re.findall(r"`(\w+)`", names)]


def stands_in(name: str, path: str) -> bool:
    files = [ROOT / one[1:] for one in TREE if one.endswith(f"/{path}")]
    return any(re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")) for file in files)


def test_names_stand_in_the_files_that_the_guide_for_contributors_says():
    found = places((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(found) > 10
    assert [one for one in found if not stands_in(*one)] == []


def test_a_name_in_another_file_is_found():
    page = "`Gaps` and `Rows` in `ports/gaps.py`, `Rows` of `listener/ports/rows.py`"
    assert [one for one in places(page) if not stands_in(*one)] == [("Rows", "ports/gaps.py")]


def test_a_path_that_does_not_exist_is_found():
    page = "`listener/none.py`, `manager.py`, `unlost/ops/kit`, `claims/manager.py`, `feed.toml`, [a](b.py)"
    assert [path for path in paths(page) if not exists(path)] == ["listener/none.py"]


def test_a_list_begins_after_an_empty_line():
    assert of_pages(lambda page: crowded_lists(page.read_text(encoding="utf-8"))) == {}


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
