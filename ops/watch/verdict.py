"""Is everything all right? One sentence, and for each problem what it means and what to do. Pure.

A cause is reported together with its consequences: one unreachable server is one problem, however many listeners it
affects. A problem keeps its key from picture to picture. By this key, ``Past`` knows how long a problem lasts, and
which recent problems are over.
"""

from collections.abc import Iterator

import msgspec

from unlost.ops.watch.audits import of_audit
from unlost.ops.watch.letter_problems import of_letters
from unlost.ops.watch.members import of_absent, of_flow, of_listeners
from unlost.ops.watch.picture import Picture
from unlost.ops.watch.problem import Level, Problem, age
from unlost.ops.watch.servers import of_places, of_postgres, of_redis, of_source

MOST_EPISODES = 50
SAME_WITHIN = 10.0
"""A problem that returns within this many seconds counts as one that never ended."""
LATELY = 600.0
BRIEFEST = 3.0
FOLLOWS = ("behind", "letters")
"""Keys of problems that follow from others. Once over, they are not listed as recent."""


class Episode(msgspec.Struct, frozen=True):
    """A problem from ``began`` to ``seen`` at least; ``what`` is the description that it had for the longest time."""

    key: str
    level: Level
    what: str
    began: float
    seen: float
    is_over: bool = False
    looks: str = ""
    looks_since: float = 0.0
    longest: float = 0.0


class Past(msgspec.Struct, frozen=True):
    """Recent problems, the latest last."""

    episodes: tuple[Episode, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """One sentence for the top; all problems, the worst first; and recent problems, the latest first."""

    level: Level
    sentence: str
    problems: tuple[Problem, ...] = ()
    lately: tuple[Episode, ...] = ()


def problems_of(picture: Picture) -> tuple[Problem, ...]:
    """All problems, the worst first, and causes before their possible consequences."""
    order = {"bad": 0, "warn": 1}
    return tuple(sorted(_problems(picture), key=lambda one: order[one.level]))


def _problems(picture: Picture) -> Iterator[Problem]:
    causes = [
        *of_postgres(picture),
        *of_absent(picture),
        *of_source(picture),
        *of_redis(picture),
        *of_places(picture),
        *of_listeners(picture),
    ]
    yield from causes
    yield from of_flow(picture, explained=any(one.level == "bad" for one in causes))
    yield from of_letters(picture)
    yield from of_audit(picture)


def remembered(past: Past, picture: Picture, problems: tuple[Problem, ...]) -> Past:
    """Add this picture to the past."""
    now, rest, found = picture.at, list(past.episodes), []
    for problem in problems:
        before = next((one for one in rest if one.key == problem.key and _goes_on(one, now)), None)
        if before:
            rest.remove(before)
        found.append(_continued(before, problem, now))
    over = [msgspec.structs.replace(one, is_over=True) for one in rest]
    return Past((*over, *found)[-MOST_EPISODES:])


def _continued(before: Episode | None, problem: Problem, now: float) -> Episode:
    began = min(now, problem.since or now, before.began if before else now)
    since = before.looks_since if before and before.looks == problem.what else now
    longest, what = now - since, problem.what
    if before and before.longest > longest:
        longest, what = before.longest, before.what
    return Episode(problem.key, problem.level, what, began, now, looks=problem.what, looks_since=since, longest=longest)


def _counts(one: Episode) -> bool:
    """Leave out warnings that were too brief (seen in a single look, say)."""
    return one.level == "bad" or one.seen - one.began >= BRIEFEST


def _goes_on(one: Episode, now: float) -> bool:
    return not one.is_over or now - one.seen <= SAME_WITHIN


def verdict(picture: Picture, past: Past | None = None) -> Verdict:
    """Judge a picture. ``past`` includes this picture; it says since when each problem has been seen."""
    past = past or Past()
    seen = {one.key: one.began for one in past.episodes if not one.is_over}
    problems = tuple(
        msgspec.structs.replace(one, since=min(filter(None, (one.since, seen.get(one.key))), default=None))
        for one in problems_of(picture)
    )
    lately = tuple(
        one
        for one in reversed(past.episodes)
        if one.is_over and picture.at - one.seen < LATELY and one.key not in FOLLOWS and _counts(one)
    )
    if not problems:
        return Verdict("good", _all_right(picture, lately), (), lately)
    first, others = problems[0], len(problems) - 1
    more = "" if not others else f" (And {others} more.)" if others > 1 else " (And one more.)"
    return Verdict(first.level, f"{headline(first, picture.at)}. {first.todo}{more}", problems, lately)


def headline(problem: Problem, now: float) -> str:
    """A problem, and how long it has lasted."""
    span = now - problem.since if problem.since is not None else 0.0
    return f"{problem.what}, for {age(span)}" if span >= 1 else problem.what


def _all_right(picture: Picture, lately: tuple[Episode, ...]) -> str:
    many = len(picture.listeners)
    ready = "1 listener is ready" if many == 1 else f"{many} listeners are ready"
    stored = sum(one.rates.stored for one in picture.listeners)
    flow = f"{stored:,.0f} events a second are stored" if stored >= 1 else "little or nothing comes in"
    healing = sum(one.healing for one in picture.letter_files)
    letters = f"no dead letter needs a human, and {healing:,} heal" if healing else "no dead letter waits"
    sentence = f"Everything is all right: {ready}, {flow}, {letters}."
    worst = max(lately, key=lambda one: (one.level == "bad", one.seen - one.began), default=None)
    if worst:
        lasted, ago = age(max(1.0, worst.seen - worst.began)), age(picture.at - worst.seen)
        sentence += f" Lately wrong: {worst.what}, for {lasted} until {ago} ago."
    return sentence
