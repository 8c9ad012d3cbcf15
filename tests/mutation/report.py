"""The page about a run: the total score, each room's score, and every survivor with a person's judgement."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from tests.mutation.mutants import ROOMS, Mutant
from tests.mutation.trial import Fate

JUDGED = Path(__file__).with_name("judged.toml")
ALIVE = (Fate.SURVIVED, Fate.UNREACHED)


class Result(msgspec.Struct, frozen=True):
    """A mutant and its fate."""

    mutant: Mutant
    holds: str
    """The state for which this is valid: a digest of everything for a survivor, of file and test for others."""
    fate: Fate
    by: str
    seconds: float


class Run(msgspec.Struct, frozen=True):
    """All results of a seed."""

    seed: int
    results: Sequence[Result]

    def of(self, room: str) -> "Run":
        """The results of this room."""
        return Run(self.seed, [one for one in self.results if one.mutant.room == room])

    @property
    def alive(self) -> Sequence[Result]:
        """The mutants that no test noticed."""
        return [one for one in self.results if one.fate in ALIVE]

    @property
    def killed(self) -> int:
        """How many mutants a test noticed."""
        return len(self.results) - len(self.alive)

    @property
    def share(self) -> float:
        """The share of killed ones among those that were tried."""
        return self.killed / max(len(self.results), 1)


class Judged(msgspec.Struct, frozen=True):
    """The judgements of a person."""

    earlier: list[str]
    """Lines about earlier runs."""
    survivors: dict[str, tuple[str, str]]
    """By a mutant's name: ``equivalent``, ``text`` or ``gap``, and why."""


INTRODUCTION = """\
# Mutation testing

Written by `make mutate`; do not edit. Judgements of survivors are in `tests/mutation/judged.toml`.

A mutant is the code with one small mistake in it, made by [mutmut](https://mutmut.readthedocs.io): another operator,
another constant, a missing argument. A seed draws the same number of mutants from the pipeline, the claims, the store,
the dead-letter file and the journal. For each, the tests that reach the changed line run, the quickest first, until one
fails. These are the tests of `make test` in `tests/unit`, `tests/property` and `tests/contract`, and the simulation
with 60 of its 2,000 schedules. The tests that start programs do not take part: they may notice more.

The goal is 85 % of all mutants, those included that change nothing.
"""


def judged() -> Judged:
    """Read from the file."""
    return msgspec.convert(tomllib.loads(JUDGED.read_text(encoding="utf-8")), Judged)


def page(runs: Sequence[Run], *, commit: str, date: str, command: str, took: str) -> str:
    """The complete page."""
    said = judged()
    lines = [
        INTRODUCTION,
        f"`{command}`, {date}, commit {commit}, {took}.", "",
        *(f"- {line}" for line in said.earlier), "",
    ]  # fmt: skip
    for run in runs:
        lines += [f"## Seed {run.seed}: {_score(run)}", "", *_rooms(run), "", "### Survivors", ""]
        lines += [line for one in run.alive for line in _survivor(one, said.survivors)] or ["None.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _score(run: Run) -> str:
    return f"{run.killed} of {len(run.results)} killed, {100 * run.share:.1f} %"


def _rooms(run: Run) -> Iterator[str]:
    yield "| part | mutants | a test failed | endless | not importable | survived | reached by no test | killed |"
    yield "|---|---|---|---|---|---|---|---|"
    for room in ROOMS:
        part = run.of(room)
        fates = Counter(one.fate for one in part.results)
        counts = [fates[fate] for fate in Fate]
        yield f"| {room} | {len(part.results)} | " + " | ".join(map(str, counts)) + f" | {100 * part.share:.0f} % |"


def _survivor(one: Result, said: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    mutant = one.mutant
    verdict, why = said.get(mutant.name, ("not judged yet", ""))
    yield f"`{mutant.name}` {mutant.file}:{mutant.line}, {one.fate}. **{verdict.capitalize()}**" + f": {why}" * bool(
        why
    )
    yield "\n```diff"
    yield from (f"-{line}" for line in mutant.before.splitlines())
    yield from (f"+{line}" for line in mutant.after.splitlines())
    yield "```\n"
