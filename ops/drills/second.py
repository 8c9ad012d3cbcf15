"""A second group of listeners beside the first: same producer, same database, other ports, files and runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ops.local.child import Child
from ops.local.layout import Layout
from ops.local.system import System

GROUP = "EU"


@contextmanager
def second_group(system: System) -> Iterator[Layout]:
    """Its listeners run meanwhile."""
    first = system.layout
    data = first.data / "second"
    data.mkdir()
    extra = {**first.extra, "group": GROUP, "DRILL_RUNS": str(data / "runs")}
    layout = replace(first.with_listeners(len(first.listener_names)), data=data, extra=extra)
    children: list[Child] = layout.listeners(system.database_url, system.redis_url)
    try:
        for child in children:
            child.start()
        yield layout
    finally:
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()
