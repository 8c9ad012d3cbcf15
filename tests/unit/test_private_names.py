"""Only rooms called ``fast`` use private names of libraries. Each exception gives its reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("listener", "producer", "dlq", "ops", "grafana")
EXCEPTIONS = {
    "listener/claims/redis/parser.py": "there is no public place between the socket and redis-py's reader",
    "ops/kit/telemetry/guarded.py": "uvicorn has no public limits for what a peer may send",
}
PUBLIC = {"_replace", "_asdict", "_fields", "_make"}
"""Documented names of named tuples."""
TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}


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


OURS = {name for tree in TREES.values() for name in defined(tree)}


def private(tree: ast.AST) -> set[str]:
    return {name for name in {*used(tree)} - OURS - PUBLIC if name.startswith("_") and not name.endswith("__")}


@pytest.mark.parametrize("file", [file for file in TREES if "fast" not in Path(file).parts])
def test_no_private_name_of_a_library_is_used(file: str) -> None:
    assert bool(private(TREES[file])) == (file in EXCEPTIONS), private(TREES[file])


def test_a_private_name_is_found_where_there_is_one() -> None:
    assert private(TREES["listener/fast/connection.py"]) == {"_on_release"}
    assert private(ast.parse("from a._b import c\nd._e()\nself._f.g")) == {"_b", "_e", "_f"}
