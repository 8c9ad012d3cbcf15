"""``python -m tests.measure``: how long files, functions and sentences are, and how many lines are comments."""

import ast
import io
import re
import statistics
import subprocess
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("listener", "producer", "dlq", "ops")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MARKUP = re.compile(r"<!--.*?-->|\]\([^)]*\)|[*_\[\]#>]", re.DOTALL)
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+", re.MULTILINE)
END = re.compile(r"(?<=[.!?:])\s+(?=[`A-Z0-9])|\n\s*\n")
"""A sentence may begin with code."""


def main() -> None:
    """Print one line a figure."""
    code = {path: path.read_text(encoding="utf-8") for path in listed(*(f"{folder}/**.py" for folder in FOLDERS))}
    pages = [path.read_text(encoding="utf-8") for path in listed("*.md", "docs/**.md") if path.name != "CHANGELOG.md"]
    show("lines of a file", [text.count("\n") for text in code.values()])
    show("lines of a function", [length for text in code.values() for length in functions(text)])
    lines = sum(text.count("\n") for text in code.values())
    print(f"{'comment lines':<32}{100 * sum(map(comments, code.values())) / lines:.1f} %")
    show("words of a sentence, documents", [length for page in pages for length in sentences(plain(page))])
    show(
        "words of a sentence, docstrings",
        [n for text in code.values() for one in docstrings(text) for n in sentences(one)],
    )


def listed(*patterns: str) -> list[Path]:
    """Files that git knows."""
    told = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in told.stdout.split("\n") if name and not (ROOT / name).is_symlink()]


def functions(text: str) -> Iterator[int]:
    """Lines of each function, without its docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) and (first := node.body[0]).end_lineno:
                length -= first.end_lineno - first.lineno + 1
            yield length


def comments(text: str) -> int:
    """Lines that hold a comment and nothing else."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip() for token in tokens)


def docstrings(text: str) -> Iterator[str]:
    """Of modules, classes and functions, without indented tables."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield "\n".join(
                "" if line.startswith("    ") else line for line in (ast.get_docstring(node) or "").splitlines()
            )


def plain(page: str) -> str:
    """A page without code, tables and markup; a heading and an item of a list stand for themselves."""
    text = "\n".join(
        "" if line.startswith(("#", "    ")) or line.lstrip().startswith("|") else line
        for line in FENCED.sub("", page).splitlines()
    )
    return MARKUP.sub("", ITEM.sub("\n\n", text))


def sentences(text: str) -> Iterator[int]:
    """Words of each sentence; what has fewer than three is none."""
    for sentence in END.split(text):
        if (words := len(sentence.split())) > 2:
            yield words


def show(name: str, numbers: Iterable[int]) -> None:
    """Median, 90th percentile and largest."""
    ordered = sorted(numbers)
    tenth = statistics.quantiles(ordered, n=10)[-1]
    print(f"{name:<32}median {statistics.median(ordered):g}, 90th percentile {tenth:g}, most {ordered[-1]}")


if __name__ == "__main__":
    main()
