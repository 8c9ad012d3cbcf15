"""Only folders called ``fast`` use private names of libraries. Each exception gives its reason.

Tests use no private names of the product, with one documented exception: the mistakes that the simulation builds in.
Ruff's rule SLF001 finds attributes; here are imports, and names in strings, by which tests patch the product.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.simulation import mutations, order_mutations, partition_mutations, shipping_mutations, topic_mutations

ROOT = Path(__file__).parents[2]
FOLDERS = ("listener", "producer", "dlq", "ops", "grafana")
EXCEPTIONS = {
    "listener/claims/redis/parser.py": "there is no public place between the socket and redis-py's reader",
    "ops/kit/telemetry/guarded.py": "uvicorn has no public limits for what a peer may send",
}
PUBLIC = {"_replace", "_asdict", "_fields", "_make"}
"""Documented names of named tuples."""
FILES = [str(path.relative_to(ROOT)) for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


@cache
def parsed(file: str) -> ast.AST:
    """A file of ours, parsed when a test needs it."""
    return ast.parse((ROOT / file).read_text(encoding="utf-8"))


def defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                yield name


def used(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(module=str(module), names=names):
                yield from module.split(".")
                yield from (one.name for one in names)
            case ast.Import(names=names):
                yield from (part for one in names for part in one.name.split("."))


@cache
def ours() -> set[str]:
    """All names that our files define."""
    return {name for file in FILES for name in defined(parsed(file))}


def private(tree: ast.AST) -> set[str]:
    return {name for name in {*used(tree)} - ours() - PUBLIC if name.startswith("_") and not name.endswith("__")}


def test_no_private_name_of_a_library_is_used() -> None:
    slow_lane = [file for file in FILES if "fast" not in Path(file).parts]
    found = {file: names for file in slow_lane if (names := private(parsed(file)))}
    assert found.keys() == EXCEPTIONS.keys(), found


def test_a_private_name_is_found_where_there_is_one() -> None:
    assert private(parsed("listener/fast/connection.py")) == {"_on_release"}
    assert private(ast.parse("from a._b import c\nd._e()\nself._f.g")) == {"_b", "_e", "_f"}


def reached(tree: ast.AST) -> set[str]:
    """Private names of the product that a test imports, or has in a string."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=imported):
                names |= {one.name for one in imported}
            case ast.Constant(value=str(path)) if all(part.isidentifier() for part in path.split(".")):
                names.update(path.split("."))  # a patch may name an attribute with its module before it
    return {name for name in (names & ours()) - {"_"} - PUBLIC if name.startswith("_") and not name.endswith("__")}


MISTAKES = {
    ROOT / f"tests/simulation/{one.__name__.rpartition('.')[2]}.py": one
    for one in (mutations, order_mutations, partition_mutations, shipping_mutations, topic_mutations)
}
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path not in (*MISTAKES, Path(__file__))]


def test_tests_name_nothing_private_of_ours() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in TESTS}
    assert {str(path): names for path, tree in trees.items() if (names := reached(tree))} == {}


def test_a_private_name_is_found_in_an_import_and_in_a_string() -> None:
    found = ast.parse("from unlost.a import _claims, open\npatch(it, '_reached', '_', '__init__', 'a _claims')")
    assert reached(found) == {"_claims", "_reached"}
    assert reached(ast.parse("patch('unlost.a.Claims._claims')")) == {"_claims"}


@pytest.mark.parametrize("path", MISTAKES, ids=lambda path: path.name)
def test_private_names_that_built_in_mistakes_reach_are_listed(path: Path) -> None:
    reached_there: dict[Any, tuple[str, ...]] = dict(MISTAKES[path].REACHED)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    rest = ast.Module([node for node in tree.body if not _is_the_list(node)], [])
    attributes = {node.attr for node in ast.walk(rest) if isinstance(node, ast.Attribute)}
    private_ones = {name for name in attributes if name.startswith("_") and not name.endswith("__")}
    found = (private_ones - PUBLIC) | reached(rest)
    listed = {name for names in reached_there.values() for name in names}
    simulated = {
        name
        for one in ("ordered", "postgres", "redis", "fleet")
        for name in defined(parsed(f"tests/simulation/{one}.py"))
    }
    assert found - (simulated - listed) == listed
    for owner, names in reached_there.items():
        missing = [name for name in names if not re.search(rf"\b(def |self\.)?{name}\b", inspect.getsource(owner))]
        assert not missing, owner


def _is_the_list(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "REACHED"
