"""Is everything all right? One sentence, and for each thing that is wrong what it means and what to do. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import msgspec

from ops.watch.picture import Listener, Picture

Level = Literal["good", "warn", "bad"]

MUCH_BEHIND = 1_000
STALLED_SECONDS = 60.0
SLOW_LOOP = 1.0

# What to do about a check that fails, by its name in /health.
REMEDIES = {
    "running": "Wait until it has started or drained; the log says what it waits for.",
    "source": "See that the producer (or whatever WS_URL names) runs and can be reached; it reconnects by itself.",
    "reading": "It reads on as soon as there is room or PostgreSQL answers; nothing is lost meanwhile.",
    "claims": "It starts new events when its claims meet those of every live peer, mostly within seconds. "
    "If not: look at Redis and PostgreSQL.",
    "dead_letters": "Make room for its dead-letter file, or let it write there; nothing is dropped meanwhile.",
    "progress": "Look at its log and its handler; a restart hands what it holds to its peers.",
}


class Problem(msgspec.Struct, frozen=True):
    """Something that is wrong: what it is, and what to do."""

    level: Level
    what: str
    todo: str


class Verdict(msgspec.Struct, frozen=True):
    """The sentence for the top, and all that is wrong, the worst first."""

    level: Level
    sentence: str
    problems: tuple[Problem, ...] = ()


def verdict(picture: Picture) -> Verdict:
    """Judge a picture."""
    order = {"bad": 0, "warn": 1}
    problems = tuple(sorted(_problems(picture), key=lambda one: order[one.level]))
    if not problems:
        return Verdict("good", _all_right(picture))
    first = problems[0]
    others = len(problems) - 1
    more = "" if not others else f" (And {others} more.)" if others > 1 else " (And one more.)"
    return Verdict(first.level, f"{first.what} {first.todo}{more}", problems)


def _all_right(picture: Picture) -> str:
    count = len(picture.listeners)
    ready = "1 listener is ready" if count == 1 else f"{count} listeners are ready"
    stored = sum(one.rates.stored for one in picture.listeners)
    flow = f"{stored:,.0f} events a second are stored" if stored >= 1 else "little or nothing comes in"
    return f"Everything is all right: {ready}, {flow}, no dead letter waits."


def _problems(picture: Picture) -> Iterator[Problem]:
    yield from _of_servers(picture)
    if not picture.listeners:
        yield Problem("bad", "No listener is known here.", "Name them in LISTENERS.")
    elif all(one.error for one in picture.listeners):
        why = picture.listeners[0].error
        yield Problem(
            "bad",
            f"No listener can be reached ({why}): nothing is consumed.",
            "Start them, or correct LISTENERS; what is published waits in the journal.",
        )
    else:
        yield from _of_listeners(picture.listeners)
    yield from _of_flow(picture)
    yield from _of_letters(picture)


def _of_servers(picture: Picture) -> Iterator[Problem]:
    producer, database = picture.producer, picture.database
    if producer and producer.error:
        yield Problem(
            "bad",
            f"The producer cannot be reached ({producer.error}): nothing can be published.",
            f"Start it again, or see why {producer.url} does not answer; listeners reconnect by themselves.",
        )
    elif producer and not producer.ready:
        yield Problem(
            "bad",
            f"The producer takes no events ({'; '.join(producer.reasons)}).",
            "Look at the disk of its journal; what it answered 202 for is safe.",
        )
    if database and database.error:
        yield Problem(
            "bad",
            f"PostgreSQL cannot be asked ({database.error}).",
            "Bring it back: listeners hold, then bury what they had in hand; a replay brings that back.",
        )


def _of_listeners(listeners: Sequence[Listener]) -> Iterator[Problem]:
    """What several listeners suffer alike is one problem."""
    away: dict[str, list[str]] = {}
    breakers: dict[str, list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for one in listeners:
        if one.error:
            away.setdefault(one.error, []).append(one.name)
            continue
        for name in one.open_breakers:
            if name != "redis" or not one.degraded:
                breakers.setdefault(name, []).append(one.name)
        for reason in one.reasons:
            reasons.setdefault(reason, []).append(one.name)
    for error, names in away.items():
        what = f"{_named(names)} cannot be reached ({error})."
        todo = "Peers take over when its lease ends. Start it again, or see in its log why it does not answer."
        yield Problem("warn", what, todo)
    for name, names in breakers.items():
        what = f"{_named(names)} {_gets(names)} no answer from {name}."
        todo = "Look at that server and the network between; it is tried again all the time."
        yield Problem("bad" if name == "postgres" else "warn", what, todo)
    yield from _of_degraded([one.name for one in listeners if one.degraded and not one.error])
    for reason, names in reasons.items():
        what = f"{_named(names)} {_takes(names)} no new work ({reason})."
        yield Problem("bad", what, REMEDIES.get(reason.partition(":")[0], "The log says more."))
    yield from _of_loops(listeners)


def _of_degraded(names: Sequence[str]) -> Iterator[Problem]:
    if names:
        what = f"{_named(names)} {_works(names)} without Redis: claims go through PostgreSQL."
        todo = "Events flow on, slower. Look at Redis, and at the way there; it is used again as soon as it answers."
        yield Problem("warn", what, todo)


def _of_loops(listeners: Sequence[Listener]) -> Iterator[Problem]:
    for one in listeners:
        if one.loop_lag > SLOW_LOOP:
            what = f"The event loop of listener {one.name} is {one.loop_lag:.1f} s late."
            todo = "A handler blocks it: make that a plain def, or await; or the machine is too busy."
            yield Problem("warn", what, todo)


def _named(names: Sequence[str]) -> str:
    return f"Listener {names[0]}" if len(names) == 1 else f"Listeners {', '.join(names[:-1])} and {names[-1]}"


def _verb(word: str) -> Callable[[Sequence[str]], str]:
    return lambda names: f"{word}s" if len(names) == 1 else word


_gets, _takes, _works = _verb("get"), _verb("take"), _verb("work")


def _of_flow(picture: Picture) -> Iterator[Problem]:
    behind = picture.behind or 0
    if picture.stalled >= STALLED_SECONDS:
        yield Problem(
            "bad",
            f"{behind:,} events wait, and nothing has moved for {picture.stalled:.0f} s.",
            "Search for the oldest event below to see who holds it; restart that listener if it is stuck.",
        )
    elif behind >= MUCH_BEHIND:
        speed = sum(one.rates.stored + one.rates.buried for one in picture.listeners)
        left = f", about {behind / speed:,.0f} s at this pace" if speed > 1 else ""
        yield Problem(
            "warn",
            f"{behind:,} events wait to be settled{left}.",
            "If that grows: start more listeners, or see what slows the handler.",
        )


def _of_letters(picture: Picture) -> Iterator[Problem]:
    waiting = sum(one.waiting for one in picture.letter_files)
    parked = sum(one.by_state.get("quarantined", 0) for one in picture.letter_files)
    if waiting:
        oldest = min(one.oldest_waiting_at for one in picture.letter_files if one.oldest_waiting_at is not None)
        many = "1 dead letter waits" if waiting == 1 else f"{waiting:,} dead letters wait"
        yield Problem(
            "warn",
            f"{many}, the oldest for {age(picture.at - oldest)}.",
            "See under Dead letters (or dlq groups) why they failed, mend that, then replay or archive them.",
        )
    if parked:
        many = "1 dead letter is" if parked == 1 else f"{parked:,} dead letters are"
        yield Problem(
            "warn",
            f"{many} in quarantine: every replay failed.",
            "Mend the cause and restore, or archive with a reason.",
        )
    for one in picture.letter_files:
        if one.error:
            yield Problem(
                "warn", f"Dead letters cannot be read: {one.error}.", "Correct LETTERS, or let this user read the file."
            )
        if one.damaged:
            yield Problem(
                "warn",
                f"{one.path} has {one.damaged:,} damaged lines.",
                "See them with: dlq verify; their neighbours are safe.",
            )


def age(seconds: float) -> str:
    """A span for people."""
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(0, seconds):.0f} s"
