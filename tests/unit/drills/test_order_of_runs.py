"""The checker of drills with keys: it finds an event that runs before the one before it has ended."""

import ast
import inspect
import sys
from types import ModuleType

import pytest

from unlost.ops.faults.drills import measure, order
from unlost.ops.faults.drills.order import disordered
from unlost.ops.faults.drills.traffic import Traffic

PLACES = {"a1": ("a", 1), "a2": ("a", 2), "a3": ("a", 3), "b1": ("b", 1)}


@pytest.mark.parametrize(
    ("runs", "wrong"),
    [
        ("a1 a2 a3", []),
        ("a1 b1 a1 a1 a2 b1 a3", []),
        ("b1 a2 a1", ["a2"]),
        ("a1 a2 a1 a3", ["a2"]),
        ("a1 a3 a2", ["a3"]),
        ("a1 a3", []),
    ],
)
def test_an_event_begins_only_after_the_last_run_of_the_one_before_it(runs: str, wrong: list[str]):
    found = disordered([(float(at), one) for at, one in enumerate(runs.split())], PLACES)
    assert [one.split()[0] for one in found] == wrong


def test_a_stream_with_keys_says_the_place_of_each_event():
    stream = Traffic("x-", 10, 1.0, keys=3)
    assert stream.event(4)["payload"] == {"number": 4, "key": "k1"}
    assert stream.places({"x-4", "x-7"}) == {"x-4": ("k1", 4), "x-7": ("k1", 7)}


@pytest.mark.parametrize("module", [order, measure])
def test_readers_of_the_handlers_record_know_nothing_of_the_product(module: ModuleType):
    """A checker that shared code with the product would share its mistakes, too."""
    nodes = [*ast.walk(ast.parse(inspect.getsource(module)))]
    names = [one.module or "" for one in nodes if isinstance(one, ast.ImportFrom)]
    names += [alias.name for one in nodes if isinstance(one, ast.Import) for alias in one.names]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
