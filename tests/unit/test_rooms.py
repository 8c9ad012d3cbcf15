"""The tree is the architecture: no folder of the package imports, by any way, one that imports it."""

from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOMS = ("listener", "producer", "dlq", "ops")


def folder_of(module: str) -> str:
    """A package is its own folder, a module lies in its parent."""
    parts = module.split(".")
    return module if Path(*parts).is_dir() else ".".join(parts[:-1])


def test_no_folders_import_each_other_at_any_depth() -> None:
    graph = grimp.build_graph("unlost")
    imports = defaultdict[str, set[str]](set)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            if folder_of(module) != folder_of(imported):
                imports[folder_of(module)].add(folder_of(imported))
    assert len(imports) > 20
    assert {name.split(".")[1] for name in imports if "." in name} == set(ROOMS)
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle
