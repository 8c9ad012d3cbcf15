"""Runs many schedules on several processes, and reports those that break the law."""

import gc
import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from tests.simulation.mutations import mutated
from tests.simulation.ordered import ordered
from tests.simulation.partitioned import partitioned
from tests.simulation.run import run
from tests.simulation.schedule import schedule
from tests.simulation.topic import topic_shared

CHUNK = 50
KINDS = {"usual": schedule, "ordered": ordered, "partitioned": partitioned, "topic": topic_shared}
"""The kinds of schedules, and what makes one from a seed."""


class Finding(msgspec.Struct, frozen=True):
    """A seed whose schedule breaks the law."""

    seed: int
    broken: str


def try_seeds(seeds: range, mutation: str = "", *, kind: str = "usual") -> list[Finding]:
    """Run these seeds in this process. Returns the findings."""
    findings = []
    with mutated(mutation):
        for seed in seeds:
            verdict = run(KINDS[kind](seed))
            _collect()
            if verdict.broken:
                findings.append(Finding(seed, verdict.broken))
    return findings


def _collect() -> None:
    """Collect what the schedule has left. What lives on is examined only once: modules, settings, types."""
    gc.collect()
    gc.freeze()


def hunt(
    first: int,
    count: int,
    *,
    jobs: int,
    mutation: str = "",
    kind: str = "usual",
    progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Finding]:
    """Run ``count`` schedules from seed ``first``. Yields findings, and reports how many schedules are done."""
    chunks = [range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(jobs, gc.disable) as pool:
        done = 0
        for chunk, findings in zip(
            chunks, pool.imap(partial(try_seeds, mutation=mutation, kind=kind), chunks), strict=True
        ):
            done += len(chunk)
            progress(done)  # before findings are yielded: the caller may stop at one
            yield from findings
