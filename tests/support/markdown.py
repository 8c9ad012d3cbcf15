"""Markdown as GitHub reads it: where links lead, and the anchors of headings."""

import itertools
import re
from collections.abc import Iterator
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

PARSER = MarkdownIt("commonmark").enable("table")


def slug(heading: str, separator: str = "-") -> str:
    """The anchor of a heading: each space becomes a hyphen, and hyphens in a row stay."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def anchors(page: str) -> set[str]:
    """The anchors of a page. A heading that comes again is counted."""
    found: list[str] = []
    for opened, inline in itertools.pairwise(PARSER.parse(page)):
        if opened.type == "heading_open":
            found.append(slug("".join(one.content for one in inline.children or ())))
    return {name if not (before := found[:at].count(name)) else f"{name}-{before}" for at, name in enumerate(found)}


def links(page: str) -> Iterator[str]:
    """Targets of links and pictures, as written."""
    for token in inline(PARSER.parse(page)):
        for name in ("href", "src"):
            if target := token.attrs.get(name):
                yield unquote(str(target))


def code(page: str) -> Iterator[str]:
    """The texts between backticks within a line."""
    return (token.content for token in inline(PARSER.parse(page)) if token.type == "code_inline")


def crowded_lists(page: str) -> list[int]:
    """Lines where a list follows a paragraph at once. GitHub shows a list, other readers of Markdown a paragraph."""
    lists = [token.map[0] for token in PARSER.parse(page) if token.type.endswith("_list_open") and token.map]
    lines = page.splitlines()
    starts = re.compile(r"\s*([-*+]|\d+[.)]) ")
    return [at + 1 for at in lists if at and lines[at - 1].strip() and not starts.match(lines[at - 1])]


def inline(tokens: list[Token]) -> Iterator[Token]:
    """Everything within lines: a picture may stand within a link."""
    for token in tokens:
        yield token
        yield from inline(token.children or [])
