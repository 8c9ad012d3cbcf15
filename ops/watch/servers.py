"""Problems of PostgreSQL, Redis and the source. Each is reported once, together with its consequences. Pure.

Redis is not queried from here: all that is known of it comes from the listeners. PostgreSQL is queried from here too,
so that a server that is down can be distinguished from a network that is cut.
"""

from collections.abc import Callable, Iterator, Sequence

from unlost.listener.observe.changes import StateChange
from unlost.ops.watch.picture import Listener, Picture
from unlost.ops.watch.problem import Problem, count, earliest, inside, named, sentences, up, verb, waiting

MOMENT = 4.0
BRIEF = 15.0
"""Seconds that claims may take to move from one place to another before that counts as a problem."""
AGAIN_AND_AGAIN = 3
SOON = "Wait some seconds: it is tried again continuously."
STILL = 20.0
"""Seconds for which a recurring failure is still reported after its last occurrence."""
DEGRADED_LONG = 600.0
PG_WHO = 'psql "$DATABASE_URL" -c "select usename, application_name, count(*) from pg_stat_activity group by 1, 2"'
_wait, _reach, _work, _read, _reconnect = map(verb, ("wait", "reach", "work", "read", "reconnect"))
_do, _keep = verb("do"), verb("keep")


def without_postgres(one: Listener, now: float) -> bool:
    """Whether this listener cannot use PostgreSQL.

    A listener that has just resumed (after a freeze, say) is unconfirmed for a moment too; that does not count.
    """
    if "postgres" in one.open_breakers or any(
        reason.startswith("reading: PostgreSQL is away") for reason in one.reasons
    ):
        return True
    return any(_not_confirmed(reason) for reason in one.reasons) and now - one.since.get("claims", now) >= MOMENT


def _not_confirmed(reason: str) -> bool:
    return reason.startswith("claims:") and "PostgreSQL" in reason


def without_redis(one: Listener) -> bool:
    """Whether this listener works without Redis."""
    return one.degraded or "redis" in one.open_breakers


def of_postgres(picture: Picture) -> Iterator[Problem]:
    """PostgreSQL is down, or cannot be reached."""
    error = picture.database.error if picture.database else ""
    alive = up(picture)
    hurt = [one for one in alive if without_postgres(one, picture.at)]
    if not error and not hurt:
        return
    back = picture.database.back_for if picture.database else None
    rest = "Listeners continue by themselves; nothing is buried meanwhile."
    if error and (hurt or not alive):
        what, todo, commands = f"PostgreSQL is away ({error})", *_heal_postgres(error)
        affected = f"{named(hurt)} {_wait(hurt)} for it, and nothing is stored." if hurt else "Nothing can be stored."
    elif error:
        what, todo, commands = f"PostgreSQL does not answer this console ({error})", *_heal_postgres(error)
        affected = "No listener reports it yet: it has just gone, or only the network from here is cut."
    elif back is not None and back < BRIEF:
        what, todo, commands = f"PostgreSQL answers again, and {inside(hurt)} {_do(hurt)} not use it yet", SOON, ()
        affected = "What waited is stored as soon as they do."
    else:
        what, todo, commands = _cut_off_from_postgres(hurt, picture)
        others = [one for one in alive if one not in hurt]
        affected = f"{named(hurt)} {_wait(hurt)} for it" + (
            f"; {inside(others)} {_work(others)} on and {_takes(others)} over."
            if others
            else ", and nothing is stored."
        )
    yield Problem(
        key="postgres", level="bad", what=what,
        affected=sentences(affected, waiting(picture), _causes(hurt, "postgres")),
        todo=f"{todo} {rest}", commands=commands, runbook="UnlostBreakerOpen",
        since=earliest(one.since.get(name) for one in hurt for name in ("postgres", "reading", "claims")),
    )  # fmt: skip


_takes = verb("take")


def _heal_postgres(error: str) -> tuple[str, tuple[str, ...]]:
    ready = 'pg_isready -d "$DATABASE_URL"'
    if "nobody listens" in error:
        return "Start PostgreSQL again; the end of its log says why it ended.", (ready,)
    if "no answer" in error:
        return (
            "It hangs, or the network drops packets: look at its machine and its disk, then restart it.",
            (ready,),
        )
    if any(word in error for word in ("too many", "connection slots")):
        return "All its connections are taken: see by whom, end those, or raise max_connections.", (PG_WHO,)
    return "Bring PostgreSQL back; its log says more.", (ready,)


def _cut_off_from_postgres(hurt: Sequence[Listener], picture: Picture) -> tuple[str, str, tuple[str, ...]]:
    what = f"{named(hurt)} {_do(hurt)} not reach PostgreSQL"
    if picture.database is None:
        return what, "Look at PostgreSQL, and at the network between.", ('pg_isready -d "$DATABASE_URL"',)
    todo = f"Look at the network between PostgreSQL and {inside(hurt)}, and whether it has connections left."
    return f"{what}, though it answers here", todo, ('pg_isready -d "$DATABASE_URL"', PG_WHO)


def of_redis(picture: Picture) -> Iterator[Problem]:
    """Redis is down or cannot be reached; or it has just come back; or it fails again and again."""
    alive = up(picture)
    hurt = [one for one in alive if without_redis(one)]
    cut = [one for one in hurt if "redis" in one.open_breakers]
    flaps = _again(picture, lambda one: one.what == "breaker_changed" and one.detail == "redis open")
    if not hurt and not flaps:
        return
    what, todo = _what_of_redis(alive, cut, hurt, flaps)
    if picture.database and not picture.database.error and any(without_postgres(one, picture.at) for one in cut):
        what = f"{named(cut)} {_do(cut)} not reach Redis either"
        todo = f"PostgreSQL answers here, so look at the network of {inside(cut)} first."
    slower = "Nothing is lost, and events flow on, slower: claims go through PostgreSQL."
    if any(without_postgres(one, picture.at) for one in hurt):
        slower = "Claims would go through PostgreSQL, but that is away too: nothing new is started."
    moving = [one for one in alive if any(is_moving(one, reason, picture.at) for reason in one.reasons)]
    pause = f"{named(moving)} {_wait(moving)} for all to share a place, mostly some seconds." if moving else ""
    since = earliest(one.since.get(name) for one in hurt for name in ("degraded", "redis"))
    yield Problem(
        key="redis", level="warn", what=what,
        affected=sentences(slower if hurt else "Nothing is lost.", pause, _causes(hurt, "redis")),
        todo=todo, commands=('redis-cli -u "$REDIS_URL" ping',), since=since,
        runbook="UnlostDegradedTooLong" if since and picture.at - since > DEGRADED_LONG else "UnlostBreakerOpen",
    )  # fmt: skip


def of_places(picture: Picture) -> Iterator[Problem]:
    """Listeners of one group keep claims in different Redis databases."""
    if not picture.apart:
        return
    listed = "; ".join(f"{', '.join(names)} in {place}" for place, names in sorted(picture.redis_places.items()))
    yield Problem(
        key="places", level="bad", what=f"Listeners of one group use different Redis databases ({listed})",
        affected="Nothing is lost or stored twice, but they share claims only in PostgreSQL, or not at all: "
        "events wait, or handlers run twice.",
        todo="Give all of them the same REDIS_URL, with the same database number, and restart those that had another.",
        commands=("unlost listener --show-settings | grep REDIS_URL",), runbook="UnlostNotClaiming",
    )  # fmt: skip


def _causes(hurt: Sequence[Listener], server: str) -> str:
    """The errors that the listeners got when they last tried."""
    causes = dict.fromkeys(why.rstrip(".") for one in hurt if (why := one.causes.get(server)))
    return f"The last error: {'; '.join(causes)}." if causes else ""


def _what_of_redis(
    alive: Sequence[Listener], cut: Sequence[Listener], hurt: Sequence[Listener], flaps: str
) -> tuple[str, str]:
    if flaps:
        return f"Redis comes and goes: lost {flaps}", "See in its log why it ends; keep it down or keep it up."
    if not cut:
        what = f"Redis answers again, and {inside(hurt)} still {_keep(hurt)} claims in PostgreSQL"
        return what, "Wait some seconds: claims move back by themselves."
    if len(cut) == len(alive):
        what = "Redis is away" if len(alive) > 1 else f"{named(alive)} {_do(alive)} not reach Redis"
        return what, "Start Redis again, or see why it hangs; it may come back empty, and is used again at once."
    others = [one for one in alive if one not in cut]
    what = f"{named(cut)} {_do(cut)} not reach Redis, though {inside(others)} {_do(others)}"
    return what, f"Redis runs: look at the network between it and {inside(cut)}, and at REDIS_URL there."


def is_moving(one: Listener, reason: str, now: float) -> bool:
    """Whether this reason is about claims that change their place, which is a problem only if it lasts."""
    if not reason.startswith("claims:") or "PostgreSQL" in reason:
        return False
    return now - one.since.get("claims", now) < BRIEF


def of_source(picture: Picture) -> Iterator[Problem]:
    """The producer is down or refuses events, or listeners are not connected."""
    producer, alive = picture.producer, up(picture)
    lost = [one for one in alive if _source_reason(one)]
    since = earliest(one.since.get("source") for one in lost)
    if producer and producer.error:
        readers = f"{named(lost)} {_read(lost)} nothing, and {_reconnect(lost)} without help." if lost else ""
        how = (
            "Start it again; the end of its log says why it ended."
            if "nobody listens" in producer.error
            else "It hangs, or cannot be reached: look at its machine, then restart it."
        )
        yield Problem(
            key="producer", level="bad", what=f"The producer is away ({producer.error})",
            affected=sentences("Nothing can be published; publishers must try again.", readers,
                               "What it answered 202 for is on its disk."),
            todo=how, commands=(f"curl -m 2 {producer.url}/health/ready",), since=since,
            runbook="UnlostNoSourceConnected" if lost else "UnlostDown",
        )  # fmt: skip
        return
    if producer and not producer.ready:
        yield Problem(
            key="producer", level="bad", what=f"The producer takes no events ({'; '.join(producer.reasons)})",
            affected="Publishers are answered 503 and must try again; what it answered 202 for is safe.",
            todo="Make room on the disk of its journal, or start the group that it waits for; it goes on by itself.",
            commands=("df -h", f"curl -s {producer.url}/api/journal/groups"),
            runbook="UnlostJournalRefuses",
        )  # fmt: skip
    if lost:
        yield _not_connected(picture, alive, lost, since)
    elif (endings := _endings(alive)) and (broken := _again(picture, lambda one: one.what == "source_connected")):
        # Without an end, listeners themselves left the source, to read it again.
        yield Problem(
            key="source", level="warn", what=f"Connections to the source break: made anew {broken}",
            affected=sentences("Nothing is lost: each resumes where the last one ended.", endings),
            todo="Look at the network, at proxies between, and at the producer's log.", runbook="UnlostSourceLost",
        )  # fmt: skip


def _not_connected(
    picture: Picture, alive: Sequence[Listener], lost: Sequence[Listener], since: float | None
) -> Problem:
    others = [one for one in alive if one not in lost]
    why = "; ".join(dict.fromkeys(_source_reason(one) for one in lost))
    if others:
        affected = f"Nothing is lost: {inside(others)} {_read(others)} on."
    else:
        affected = sentences(
            "Nobody reads.", waiting(picture) or "What a source that cannot resume sends now is missed."
        )
    return Problem(
        key="source", level="warn" if others else "bad", since=since, affected=affected,
        what=f"{named(lost)} {_has(lost)} no connection to the source ({why})",
        todo="It is tried again, at the latest after 30 s (RECONNECT_MAX). "
        "If that does not help, look at the source, WS_URL, and the network between.",
        runbook="UnlostSourceLost" if others else "UnlostNoSourceConnected",
    )  # fmt: skip


def _endings(listeners: Sequence[Listener]) -> str:
    """How connections last ended: the close code and its reason are the only hint that a source gives."""
    endings = dict.fromkeys(one.source_lost.rstrip(".") for one in listeners if one.source_lost)
    return f"The last ended so: {'; '.join(endings)}." if endings else ""


def _has(listeners: Sequence[Listener]) -> str:
    return "has" if len(listeners) == 1 else "have"


def _source_reason(one: Listener) -> str:
    """Why the listener is not connected to the source, or an empty text."""
    for reason in one.reasons:
        name, _, why = reason.partition(": ")
        if name == "source":
            return "nobody listens there" if "Connection refused" in why or "Errno 111" in why else why or "lost"
    return ""


def _again(picture: Picture, wanted: Callable[[StateChange], bool]) -> str:
    """How often this change happened lately, in the listener that saw most of it; empty if it was not repeated."""
    found: list[StateChange] = [
        change
        for one in up(picture)
        for change in one.changes
        if wanted(change) and change.times >= AGAIN_AND_AGAIN and picture.at - change.at < STILL
    ]
    if not found:
        return ""
    most = max(found, key=lambda one: one.times)
    return count(most.times, "once", "times") + f" within {max(1.0, most.at - most.first_at):.0f} s"
