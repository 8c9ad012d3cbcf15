"""Is everything all right? One sentence, and for each thing that is wrong what it means and what to do. Pure.

Causes are told, and what follows from a cause only with it: one server that is away is one problem, however many
listeners suffer. A problem keeps its key from picture to picture, which is how ``Past`` knows since when it lasts,
and what went wrong lately and is over.
"""

from collections.abc import Iterator

import msgspec

from unlost.ops.watch.members import of_absent, of_flow, of_letters, of_listeners
from unlost.ops.watch.picture import Picture
from unlost.ops.watch.problem import Level, Problem, age
from unlost.ops.watch.servers import of_places, of_postgres, of_redis, of_source

MOST_EPISODES = 50
SAME_WITHIN = 10.0
"""What is back after no more seconds than this had not ended."""
LATELY = 600.0
BRIEFEST = 3.0
FOLLOWS = ("behind", "letters")
"""What follows from something else, and is not told any more once it is over."""


class Episode(msgspec.Struct, frozen=True):
    """Something that was wrong from ``began`` to ``seen`` at least; ``what`` is how it looked for the longest time."""

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
    """What was wrong, the latest last."""

    episodes: tuple[Episode, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """The sentence for the top, all that is wrong, the worst first, and what was wrong lately, the latest first."""

    level: Level
    sentence: str
    problems: tuple[Problem, ...] = ()
    lately: tuple[Episode, ...] = ()


def problems_of(picture: Picture) -> tuple[Problem, ...]:
    """All that is wrong, the worst first, and causes before what may follow from them."""
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


def remembered(past: Past, picture: Picture, problems: tuple[Problem, ...]) -> Past:
    """The past with this picture in it."""
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
    """What one look alone saw is no news, unless it was bad."""
    return one.level == "bad" or one.seen - one.began >= BRIEFEST


def _goes_on(one: Episode, now: float) -> bool:
    return not one.is_over or now - one.seen <= SAME_WITHIN


def verdict(picture: Picture, past: Past | None = None) -> Verdict:
    """Judge a picture. ``past`` has this picture in it, and tells since when what is wrong was seen."""
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
    """What is wrong, and for how long."""
    span = now - problem.since if problem.since is not None else 0.0
    return f"{problem.what}, for {age(span)}" if span >= 1 else problem.what


def _all_right(picture: Picture, lately: tuple[Episode, ...]) -> str:
    many = len(picture.listeners)
    ready = "1 listener is ready" if many == 1 else f"{many} listeners are ready"
    stored = sum(one.rates.stored for one in picture.listeners)
    flow = f"{stored:,.0f} events a second are stored" if stored >= 1 else "little or nothing comes in"
    told = f"Everything is all right: {ready}, {flow}, no dead letter waits."
    worst = max(lately, key=lambda one: (one.level == "bad", one.seen - one.began), default=None)
    if worst:
        lasted, ago = age(max(1.0, worst.seen - worst.began)), age(picture.at - worst.seen)
        told += f" Lately wrong: {worst.what}, for {lasted} until {ago} ago."
    return told
