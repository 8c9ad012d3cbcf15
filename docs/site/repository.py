"""A hook of ProperDocs: each document stands in the site under its path in the repository.

So links between documents hold in both, and nothing is rewritten. Other files that documents link to come along:
pictures and JSON as they are, code as a coloured listing.
"""

import posixpath
from pathlib import Path

from properdocs.config.defaults import ProperDocsConfig
from properdocs.structure.files import File, Files, InclusionLevel
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound

from tests.support.markdown import links, slug

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
AS_THEY_ARE = (".json", ".png", ".svg")


def on_config(config: ProperDocsConfig) -> None:
    """Name anchors as GitHub does."""
    config.mdx_configs["toc"] = {"slugify": slug, "permalink": True}


def on_files(files: Files, config: ProperDocsConfig) -> None:
    """Add the documents, and each file that one of them links to."""
    pages = [path.relative_to(ROOT).as_posix() for path in PAGES]
    for name in pages:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for name in sorted(linked(pages) - set(pages)):
        files.append(attached(config, name))
    files.append(File.generated(config, "code.css", content=HtmlFormatter().get_style_defs(".codehilite")))


def linked(pages: list[str]) -> set[str]:
    """Files that these pages link to. One that does not exist is left to the strict build, which names it."""
    targets = {
        posixpath.normpath(posixpath.join(posixpath.dirname(page), target.partition("#")[0]))
        for page in pages
        for target in links((ROOT / page).read_text(encoding="utf-8"))
        if target.partition("#")[0] and "://" not in target
    }
    return {name for name in targets if (ROOT / name).is_file()}


def attached(config: ProperDocsConfig, name: str) -> File:
    """A file that is no document."""
    if name.endswith(AS_THEY_ARE):
        return File.generated(config, name, abs_src_path=str(ROOT / name))
    text = (ROOT / name).read_text(encoding="utf-8")
    file = File.generated(config, name, content=listing(name, text), inclusion=InclusionLevel.NOT_IN_NAV)
    file.dest_uri = f"{name}.html"
    return file


def listing(name: str, text: str) -> str:
    """A page of its own, with a number at each line."""
    try:
        lexer = get_lexer_for_filename(name)
    except ClassNotFound:
        lexer = TextLexer()
    return highlight(text, lexer, HtmlFormatter(full=True, title=name, linenos="table", lineanchors="L"))
