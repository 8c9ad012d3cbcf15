"""Problems of listeners, and of the flow of events. Pure.

Consequences of an unreachable server are reported with that server (``servers.py``), and not repeated here.
"""

import shlex
from collections.abc import Iterator, Sequence

from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.watch.picture import Listener, Picture
from unlost.ops.watch.problem import Problem, count, earliest, inside, named, sentences, up, verb, waiting
from unlost.ops.watch.servers import is_moving

MUCH_BEHIND = 1_000
STALLED_SECONDS = 60.0
SLOW_LOOP = 1.0
STOOD_STILL = 5.0
SLOW_BATCH = 0.25
OLD_EVENT = 60.0
DEATHS = 2
LONG_PAUSE = 3600.0
"""A pause that lasts longer was perhaps forgotten. The alert UnlostPaused has the same limit."""
_go, _stand, _take, _write, _do = map(verb, ("go", "stand", "take", "write", "do"))

# Checks of /health that no other problem covers, by name: what a failure means, what to do, heading in the runbook.
CHECKS = {
    "running": ("It does no work yet, or no longer.", "Wait until it has started or drained; its log says more.", ""),
    "reading": (
        "It reads nothing new. Its peers continue to read, and nothing is lost.",
        "It continues as soon as there is room: see what slows its handler, or raise MAX_EVENTS.",
        "UnlostReadingPaused",
    ),
    "storing": (
        "Its events wait for their rows, for as long as it takes. None becomes a letter.",
        "See what keeps PostgreSQL from taking rows: a lock on the table of events, a standby that is away, a right.",
        "UnlostStoringPaused",
    ),
    "claims": (
        "It starts no new event: its claims and those of a live peer are in different places.",
        "See that Redis and PostgreSQL answer all listeners alike; a restart of this one is safe.",
        "UnlostNotClaiming",
    ),
    "progress": (
        "Its events are not settled.",
        "Look at its log and its handler; a restart hands its events to its peers.",
        "UnlostStuck",
    ),
}


def of_absent(picture: Picture) -> Iterator[Problem]:
    """Listeners that do not answer; those with the same error are one problem."""
    if not picture.listeners:
        yield Problem(
            key="listeners", level="bad", what="No listener is known here", affected="Nothing is known of events.",
            todo="Name the listeners in LISTENERS.",
        )  # fmt: skip
    away: dict[str, list[Listener]] = {}
    for one in picture.listeners:
        if one.error:
            away.setdefault(one.error, []).append(one)
    for error, some in away.items():
        yield _absent(picture, error, some)
    yield from _died(picture)
    yield from _twins(picture)


def _twins(picture: Picture) -> Iterator[Problem]:
    """Listeners that share a name: several addresses answer with it, or several processes report it to PostgreSQL."""
    urls: dict[str, list[str]] = {}
    for one in up(picture):
        urls.setdefault(one.name, []).append(one.url)
    marks = picture.database.listeners_seen if picture.database else {}
    for name in sorted({*urls, *marks}):
        many = max(len(urls.get(name, ())), marks[name].alive if name in marks else 0)
        if many > 1:
            where = f" ({', '.join(urls[name])})" if len(urls.get(name, ())) > 1 else ""
            yield Problem(
                key=f"twins: {name}", level="bad",
                what=f"{many} listeners are called {name}{where}",
                affected="Nothing is stored twice; but rows, letters, logs and metrics cannot tell them apart.",
                todo="Give each an INSTANCE_ID of its own, and a DEAD_LETTER_FILE of its own, and restart it.",
                commands=("unlost listener --show-settings | grep INSTANCE_ID",),
            )  # fmt: skip


def _absent(picture: Picture, error: str, some: Sequence[Listener]) -> Problem:
    alive = up(picture)
    standing = sum(one.standing_by for one in alive)
    marks = picture.database.listeners_seen if picture.database else {}
    seen = [marks[one.name].seen_at for one in some if one.name in marks]
    if alive:
        waits = f" ({count(standing, '1 event stands', 'events stand')} by)" if standing else ""
        affected = (
            f"{named(alive)} {_go(alive)} on, and {_take(alive)} over what was held there when its lease ends{waits}."
        )
    else:
        affected = sentences("Nothing is consumed.", waiting(picture))
    if "nobody listens" in error:
        todo = "Start it again; the end of its log says why it ended."
    elif "no answer" in error:
        todo = (
            "Its process hangs, is stopped, or cannot be reached. Look at its machine (state T in ps: stopped; "
            "D: waits for a disk), then restart it; that is safe."
        )
    else:
        todo = "See that its address in LISTENERS is right, and that it is one of ours."
    return Problem(
        key=f"away: {error}", level="warn" if alive else "bad", what=f"{named(some)} {_do(some)} not answer ({error})",
        affected=affected, todo=todo, commands=(f"curl -m 2 {some[0].url}/health/live",), runbook="UnlostDown",
        since=earliest(seen),
    )  # fmt: skip


def _died(picture: Picture) -> Iterator[Problem]:
    marks = picture.database.listeners_seen if picture.database else {}
    dead = {name: mark.starts - 1 for name, mark in marks.items() if mark.starts > DEATHS}
    if dead:
        deaths = ", ".join(f"listener {name} {counted(times, 'time')}" for name, times in sorted(dead.items()))
        yield Problem(
            key="died", level="warn", what=f"Within 10 minutes processes ended without order: {deaths}",
            affected="Each time peers take over what it held; handlers may have run twice.",
            todo="The end of its log says why. An event that kills its process ends as a letter, reason crash_loop.",
            commands=("dlq list --reason crash_loop",), runbook="UnlostTakeovers",
        )  # fmt: skip


def of_listeners(picture: Picture) -> Iterator[Problem]:
    """Problems that listeners report about themselves, unless an unreachable server explains them."""
    alive = up(picture)
    stuck: dict[str, list[Listener]] = {}
    for one in alive:
        names = {reason.partition(":")[0] for reason in one.reasons}
        for reason in one.reasons:
            name = reason.partition(":")[0]
            explained = name == "source" or _is_away(one, name, reason) or is_moving(one, reason, picture.at)
            if not explained and not (name == "reading" and "dead_letters" in names):
                stuck.setdefault(reason, []).append(one)
    for reason, some in stuck.items():
        yield _stuck(reason, some)
    yield from _paused(alive)
    yield from _held(alive, picture.at)
    yield from _slow(alive, picture.at)


def _paused(alive: Sequence[Listener]) -> Iterator[Problem]:
    """Routes of the handler that pause: what they need does not answer."""
    routes: dict[str, list[Listener]] = {}
    for one in alive:
        for route in one.routes_paused:
            routes.setdefault(route, []).append(one)
    for route, some in sorted(routes.items()):
        why = some[0].routes_paused[route]
        pausing = sum(one.pausing for one in some)
        yield Problem(
            key=f"route: {route}", level="bad", what=f"The route {route} pauses: nearly every attempt fails ({why})",
            affected=f"{count(pausing, '1 event waits', 'events wait')} in the memory of {inside(some)}. No attempt is "
            "counted, nothing is buried, and other routes flow.",
            todo="Bring back what the handler needs. One event is tried at a time; the first success ends the pause.",
            commands=(f"curl -s {some[0].url}/health",), runbook="UnlostRoutePaused",
            since=earliest(one.since.get(f"route {route}") for one in some),
        )  # fmt: skip


def _held(alive: Sequence[Listener], now: float) -> Iterator[Problem]:
    """Listeners and routes that a person paused."""
    pauses = {(one.kind, one.name): one for listener in alive for one in listener.pauses}
    for pause in pauses.values():
        some = [one for one in alive if any((p.kind, p.name) == (pause.kind, pause.name) for p in one.pauses)]
        affected = "It reads nothing new, and finishes what it holds. Its peers go on."
        if pause.kind == "route":
            affected = f"Its events wait in the memory of {inside(some)}. Other routes flow."
        yield Problem(
            key=f"pause: {pause.kind} {pause.name}", level="bad" if now - pause.since > LONG_PAUSE else "warn",
            what=f"The {pause.kind} {pause.name} is {pause}", affected=affected,
            todo="Resume it as soon as the reason is gone.",
            commands=(f"unlost resume {pause.kind} {shlex.quote(pause.name)}",), runbook="UnlostPaused",
            since=pause.since,
        )  # fmt: skip


def _is_away(one: Listener, name: str, reason: str) -> bool:
    """Whether this listener cannot reach PostgreSQL. A PostgreSQL that answers but takes no rows is another problem."""
    return "PostgreSQL" in reason and (name != "storing" or one.breakers.get("postgres") == "open")


def _stuck(reason: str, some: Sequence[Listener]) -> Problem:
    name, _, why = reason.partition(": ")
    since = earliest(one.since.get(name) for one in some)
    if name == "dead_letters":
        held, place = sum(one.in_memory for one in some), why.removeprefix("cannot write ")
        return Problem(
            key=f"dead_letters: {','.join(one.name for one in some)}", level="bad", since=since,
            what=f"{named(some)} cannot write dead letters ({place})",
            affected=f"Reading has stopped there, {count(held, '1 event is', 'events are')} held in memory, "
            "and nothing is dropped.",
            todo="Make room on that disk, or let it write there; it goes on by itself.",
            commands=("df -h",), runbook="UnlostDeadLetterFileFailed",
        )  # fmt: skip
    affected, todo, runbook = CHECKS.get(name, ("It takes no new work.", "Its log says more.", ""))
    return Problem(
        key=f"{name}: {','.join(one.name for one in some)}", level="bad", since=since, affected=affected, todo=todo,
        what=f"{named(some)} {_take(some)} no new work ({why or name})", runbook=runbook,
    )  # fmt: skip


def _slow(alive: Sequence[Listener], now: float) -> Iterator[Problem]:
    for one in alive:
        if one.unmeasured:
            yield Problem(
                key=f"metrics: {one.name}", level="warn", affected="Its rates and letters are not known; it works.",
                what=f"The figures of {inside([one])} cannot be read ({one.unmeasured})",
                todo="See what keeps its /metrics from being read.", commands=(f"curl -m 2 {one.url}/metrics",),
            )  # fmt: skip
        if one.loop_lag > STOOD_STILL:
            yield Problem(
                key=f"loop: {one.name}", level="warn", runbook="UnlostLeasesLost",
                what=f"{named([one])} stood still for {one.loop_lag:.0f} s",
                affected="Its leases ran out meanwhile, and peers took its events over; handlers may have run twice.",
                todo="Its process was stopped, its container paused or its machine suspended; or a handler blocked it.",
            )  # fmt: skip
        elif one.loop_lag > SLOW_LOOP:
            yield Problem(
                key=f"loop: {one.name}", level="warn", runbook="UnlostLoopLags",
                what=f"The event loop of {inside([one])} is {one.loop_lag:.1f} s late",
                affected="It may lose its leases, and its events go to others.",
                todo="A handler blocks it: make that a plain def, or await; or the machine is too busy.",
            )  # fmt: skip
        if one.oldest > OLD_EVENT and not one.reasons:
            yield Problem(
                key=f"oldest: {one.name}", level="warn", runbook="UnlostStuck",
                what=f"An event lies unsettled in the memory of {inside([one])}", since=now - one.oldest,
                affected="The cursor waits for it; other events flow on.",
                todo="Its handler hangs, or a peer holds it. A shorter HANDLE_TIMEOUT ends an attempt that hangs.",
            )  # fmt: skip
    for server, name in (("Redis", "claim_seconds"), ("PostgreSQL", "store_seconds")):
        slow = [one for one in alive if (getattr(one, name) or 0) >= SLOW_BATCH and not one.open_breakers]
        if slow:
            most = max(getattr(one, name) for one in slow)
            doing = "claiming" if server == "Redis" else "storing"
            yield Problem(
                key=f"slow: {server}", level="warn",
                what=f"{server}, or the way there, is slow: {doing} a batch takes {inside(slow)} up to {most:g} s",
                affected="Events flow on, later.",
                todo=f"Look at the network to {server}, and at the load of its machine.",
                runbook="UnlostObjectiveBurnsFast",
            )  # fmt: skip


def of_flow(picture: Picture, explained: bool) -> Iterator[Problem]:
    """Events that wait, unless a reported cause explains it."""
    behind = picture.behind or 0
    if explained:
        return
    if picture.stalled >= STALLED_SECONDS:
        yield Problem(
            key="stalled", level="bad", since=picture.at - picture.stalled, runbook="UnlostNothingConsumed",
            what=f"{count(behind, '1 event waits', 'events wait')}, and nothing moves",
            affected="Whatever is published waits too, safe in the journal.",
            todo="Restart the listeners one by one: peers go on, and the cursor stands in PostgreSQL. "
            "If one event holds all, its story under Events says who has it.",
        )  # fmt: skip
    elif behind >= MUCH_BEHIND:
        speed = sum(one.rates.stored + one.rates.buried for one in picture.listeners)
        accepted = picture.producer.accepted if picture.producer else 0.0
        left = f"; all is settled in about {behind / (speed - accepted):,.0f} s" if speed - accepted > 1 else ""
        yield Problem(
            key="behind", level="warn", what=f"{behind:,} events wait to be settled",
            affected=f"{accepted:,.0f} a second come in, {speed:,.0f} are settled{left}.",
            todo="Wait, if it falls. If it grows: see what slows the handler, or start more listeners.",
            runbook="UnlostLagGrowing",
        )  # fmt: skip
