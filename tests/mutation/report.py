"""What came of a run, as a page: the score, each room's, and every survivor with what a person said of it."""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tests.mutation.mutants import ROOMS, Mutant
from tests.mutation.trial import Fate

JUDGED = Path(__file__).with_name("judged.toml")
ALIVE = (Fate.SURVIVED, Fate.UNREACHED)


class Result(msgspec.Struct, frozen=True):
    """A mutant and its fate."""

    mutant: Mutant
    state: str
    """Of the repository, when it was tried."""
    fate: Fate


def judgements() -> Mapping[str, Mapping[str, str]]:
    """By a mutant's name: ``equivalent`` or ``gap``, and why."""
    return tomllib.loads(JUDGED.read_text(encoding="utf-8"))


def page(results: Sequence[Result], *, date: str, seed: int, wanted: int) -> str:
    """The whole page."""
    judged = judgements()
    alive = [one for one in results if one.fate in ALIVE]
    return "\n".join(
        [
            "# Mutation testing", "",
            "Written by `make mutate`; do not edit. Small mistakes are put into pipeline, claims, store, dead letters",
            "and journal, one at a time, and the tests that reach the changed line are run: those of `make test` that",
            "have the code in their own process. A mutant that all of them let pass is a survivor.", "",
            f"{date}, seed {seed}, {len(results)} of {wanted} mutants tried: **{_score(results)} killed**.", "",
            *_rooms(results), "", "## Survivors", "",
            *([line for one in alive for line in _survivor(one, judged)] or ["None."]),
        ]
    ) + "\n"  # fmt: skip


def _score(results: Sequence[Result]) -> str:
    killed = sum(one.fate not in ALIVE for one in results)
    return f"{killed} ({100 * killed / max(len(results), 1):.0f} %)"


def _rooms(results: Sequence[Result]) -> list[str]:
    lines = [
        "| room | mutants | killed | by time | at import | survived | reached by no test |",
        "|---|---|---|---|---|---|---|",
    ]
    for room in ROOMS:
        fates = Counter(one.fate for one in results if one.mutant.room == room)
        counts = [fates.total(), fates[Fate.KILLED], fates[Fate.ENDLESS], fates[Fate.BROKEN], fates[Fate.SURVIVED]]
        lines.append(f"| {room} | " + " | ".join(map(str, (*counts, fates[Fate.UNREACHED]))) + " |")
    return lines


def _survivor(one: Result, judged: Mapping[str, Mapping[str, str]]) -> list[str]:
    mutant = one.mutant
    said = judged.get(mutant.name, {"verdict": "not judged yet", "why": ""})
    removed = [f"-{line}" for line in mutant.before.splitlines()]
    added = [f"+{line}" for line in mutant.after.splitlines()]
    why = f": {said['why']}" if said["why"] else ""
    return [
        f"`{mutant.name}` {mutant.file}:{mutant.line}, {one.fate}. {said['verdict'].capitalize()}{why}", "",
        "```diff", *removed, *added, "```", "",
    ]  # fmt: skip
