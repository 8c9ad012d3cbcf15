"""``python -m tests.measure [COMMIT]``: how long files, functions and sentences are, and how many comments."""

import ast
import io
import re
import statistics
import subprocess
import sys
import tarfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("listener", "producer", "dlq", "ops")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
MARKUP = re.compile(r"<!--.*?-->|\]\([^)]*\)|[*_\[\]#>]", re.DOTALL)
ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+", re.MULTILINE)
END = re.compile(r"(?<=[.!?:])\s+(?=[`A-Z0-9])|\n\s*\n")
"""A sentence may begin with code."""
FOR_TOOLS = re.compile(r"#\s*(?:noqa|type:|fmt:)")


def main() -> None:
    """Print one line a figure: of the files here, and before them of the commit that is named, if any."""
    names = sys.argv[1:2]
    measured = [figures(committed(one)) for one in names] + [figures(here())]
    heads = [*(f"at {one}" for one in names), "here"]
    print(f"{'median, 90th percentile, most':<34}" + "".join(f"{head:>20}" for head in heads))
    for name in measured[-1]:
        print(f"{name:<34}" + "".join(f"{one[name]:>20}" for one in measured))


def here() -> dict[str, str]:
    """The files that git knows, as they are now."""
    named = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    paths = {name: ROOT / name for name in named if is_wanted(name)}
    return {name: path.read_text("utf-8") for name, path in paths.items() if path.is_file() and not path.is_symlink()}


def committed(revision: str) -> dict[str, str]:
    """The files of a commit."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        wanted = [one for one in files if one.isfile() and is_wanted(one.name)]
        return {one.name: file.read().decode() for one in wanted if (file := files.extractfile(one))}


def is_wanted(name: str) -> bool:
    """Whether a file is code of the product, or a document."""
    folder = name.partition("/")[0]
    if name.endswith(".py"):
        return folder in FOLDERS
    return name.endswith(".md") and folder in (name, "docs") and name != "CHANGELOG.md"


def figures(files: dict[str, str]) -> dict[str, str]:
    """Each figure by its name."""
    code = [text for name, text in files.items() if name.endswith(".py")]
    pages = [text for name, text in files.items() if name.endswith(".md")]
    lines = [text.count("\n") for text in code]
    words = [count for text in code for one in docstrings(text) for count in sentences(one)]
    return {
        "lines of a file": shown(lines),
        "lines of a function": shown([length for text in code for length in functions(text)]),
        "comments in a hundred lines": f"{100 * sum(map(comments, code)) / sum(lines):.1f}",
        "words of a sentence in documents": shown([count for page in pages for count in sentences(plain(page))]),
        "words of a sentence in docstrings": shown(words),
    }


def functions(text: str) -> Iterator[int]:
    """Lines of each function, without its docstring."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            length = node.end_lineno - node.lineno + 1
            if ast.get_docstring(node) and (first := node.body[0]).end_lineno:
                length -= first.end_lineno - first.lineno + 1
            yield length


def comments(text: str) -> int:
    """Comments for readers, in lines of their own or behind code. Those for tools do not count."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(token.type == tokenize.COMMENT and not FOR_TOOLS.match(token.string) for token in tokens)


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


def shown(numbers: list[int]) -> str:
    """Median, 90th percentile and largest."""
    tenth = statistics.quantiles(numbers, n=10)[-1]
    return f"{statistics.median(numbers):g}, {tenth:g}, {max(numbers)}"


if __name__ == "__main__":
    main()
