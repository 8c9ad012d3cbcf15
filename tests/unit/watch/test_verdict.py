"""Each problem is named once: what broke, what is affected, what to do. Nothing else is named."""

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from unlost.listener.core.pause import Pause
from unlost.listener.observe.changes import StateChange
from unlost.listener.store.postgres.audits import LastAudit
from unlost.ops.watch.picture import DatabaseState, FailureGroup, LetterFile, Listener, Mark, Picture, Producer, Rates
from unlost.ops.watch.problem import age
from unlost.ops.watch.query import named
from unlost.ops.watch.verdict import LATELY, SAME_WITHIN, Past, Verdict, problems_of, remembered, verdict

RUNBOOK = Path(__file__).parents[3] / "docs" / "runbook.md"
REFUSED, SILENT = "nobody listens there", "no answer within 1.5 s"


def listener(name: str = "a", **values: Any) -> Listener:
    usual: dict[str, Any] = {"url": f"http://{name}", "name": name, "ready": True, "cursor": "j.10"}
    return Listener(**usual | values)


def both(**values: object) -> tuple[Listener, ...]:
    return listener("a", **values), listener("b", **values)


def picture(**values: object) -> Picture:
    well: dict[str, Any] = {
        "at": 1_000.0,
        "listeners": both(),
        "producer": Producer(url="http://p", ready=True, newest=10),
        "database": DatabaseState(),
        "letter_files": (LetterFile(path="f"),),
    }
    shown = Picture(**well | values)
    newest = shown.producer.newest if shown.producer else None
    lag = None if newest is None else newest - 10
    return replace(shown, listeners=tuple(one if one.error else replace(one, lag=lag) for one in shown.listeners))


def letters(reason: str = "exhausted", stage: str = "handle", error: str = "KeyError") -> dict[str, object]:
    kind = FailureGroup("f1", reason, stage, error, 2)
    return {"letter_files": (LetterFile(path="x/f", waiting=2, oldest_waiting_at=400.0, kinds=(kind,)),)}


def changed(what: str, detail: str = "", times: int = 1, at: float = 995.0) -> tuple[StateChange, ...]:
    return (StateChange(at, what, detail, times, at - 4.0),)


NOT_CONFIRMED = ("claims: PostgreSQL has not confirmed this listener for some seconds",)
NO_PG = {
    "ready": False, "breakers": {"postgres": "open"}, "since": {"postgres": 940.0, "reading": 950.0},
    "reasons": ("reading: PostgreSQL is away", "claims: PostgreSQL has not confirmed this listener for some seconds"),
}  # fmt: skip
NO_REDIS = {"degraded": True, "breakers": {"redis": "open"}, "since": {"redis": 990.0, "degraded": 991.0}}
NO_SOURCE = {
    "ready": False,
    "reasons": ("source: Multiple exceptions: [Errno 111] Connection refused",),
    "since": {"source": 970.0},
}
NO_ROOM = {
    "ready": False, "in_memory": 7, "since": {"dead_letters": 900.0},
    "reasons": ("reading: cannot write f: no room", "dead_letters: cannot write f: no room"),
}  # fmt: skip
MOVING = {"ready": False, "reasons": ("claims: a live peer keeps its claims elsewhere",)}
AWAY = DatabaseState(error=REFUSED)
WAITS = Producer(url="http://p", ready=True, newest=2_510)


def test_a_system_that_is_well_is_called_so():
    busy = listener(rates=Rates(stored=120.0))
    assert verdict(picture()).level == "good"
    assert verdict(picture(listeners=(busy,))).sentence == (
        "Everything is all right: 1 listener is ready, 120 events a second are stored, no dead letter waits."
    )


CASES: list[Any] = [
    # PostgreSQL
    ({"database": AWAY, "listeners": both(**NO_PG), "producer": WAITS}, "bad",
     "PostgreSQL is away (nobody listens there)",
     "Listeners a and b wait for it, and nothing is stored. 2,500 accepted events wait, safe in the journal.",
     "Start PostgreSQL again"),
    ({"database": DatabaseState(error="no answer in time"), "listeners": both(**NO_PG)}, "bad",
     "PostgreSQL is away (no answer in time)", "No accepted event waits.", "It hangs, or the network drops"),
    ({"database": DatabaseState(error="sorry, too many clients already"), "listeners": both(**NO_PG)}, "bad",
     "PostgreSQL is away (sorry, too many clients already)", "nothing is stored", "All its connections are taken"),
    ({"database": AWAY}, "bad", "PostgreSQL does not answer this console (nobody listens there)",
     "No listener reports it yet", "Start PostgreSQL again"),
    ({"listeners": both(**NO_PG)}, "bad", "Listeners a and b do not reach PostgreSQL, though it answers here",
     "nothing is stored", "Look at the network between PostgreSQL and listeners a and b"),
    ({"listeners": (listener("a", **NO_PG), listener("b"))}, "bad",
     "Listener a does not reach PostgreSQL, though it answers here", "listener b works on and takes over",
     "Look at the network between PostgreSQL and listener a"),
    ({"listeners": (listener("a", **NO_PG), listener("b")), "database": DatabaseState(back_for=2.0)}, "bad",
     "PostgreSQL answers again, and listener a does not use it yet", "as soon as they do", "Wait some seconds"),
    # Redis
    ({"listeners": both(**NO_REDIS)}, "warn", "Redis is away", "events flow on, slower", "Start Redis again"),
    ({"listeners": (listener("a", **NO_REDIS), listener("b"))}, "warn",
     "Listener a does not reach Redis, though listener b does", "events flow on", "look at the network between it and"),
    ({"listeners": both(degraded=True)}, "warn",
     "Redis answers again, and listeners a and b still keep claims in PostgreSQL", "events flow on", "Wait some"),
    ({"listeners": (listener("a", changes=changed("breaker_changed", "redis open", 5)), listener("b"))}, "warn",
     "Redis comes and goes: lost 5 times within 4 s", "Nothing is lost.", "See in its log why it ends"),
    ({"listeners": (listener("a", **NO_REDIS), listener("b", **MOVING))}, "warn",
     "Listener a does not reach Redis, though listener b does", "Listener b waits for all to share", "Redis runs"),
    ({"listeners": both(**NO_REDIS | {"causes": {"redis": "Redis at 127.0.0.1:6379 refused the connection"}})}, "warn",
     "Redis is away", "The last error: Redis at 127.0.0.1:6379 refused the connection.", "Start Redis again"),
    ({"listeners": (listener("a", places=("redis:1",)), listener("b", places=("postgres:1", "redis:2"))),
      "apart": True}, "bad", "Listeners of one group use different Redis databases (a in redis:1; b in redis:2)",
     "Nothing is lost or stored twice", "the same REDIS_URL"),
    # the source
    ({"producer": Producer(url="http://p", error=REFUSED), "listeners": both(**NO_SOURCE)}, "bad",
     "The producer is away (nobody listens there)", "Listeners a and b read nothing", "Start it again"),
    ({"producer": Producer(url="http://p", error=SILENT)}, "bad", f"The producer is away ({SILENT})",
     "publishers must try again", "It hangs"),
    ({"producer": Producer(url="http://p", newest=10, reasons=("journal: full",))}, "bad",
     "The producer takes no events (journal: full)", "503", "Make room"),
    ({"listeners": both(**NO_SOURCE)}, "bad",
     "Listeners a and b have no connection to the source (nobody listens there)", "Nobody reads.", "It is tried again"),
    ({"listeners": (listener("a", **NO_SOURCE), listener("b"))}, "warn",
     "Listener a has no connection to the source", "listener b reads on", "It is tried again"),
    ({"listeners": (listener("a", changes=changed("source_connected", "", 4), source_lost="x"), listener("b"))}, "warn",
     "Connections to the source break: made anew 4 times within 4 s", "resumes where", "Look at the network"),
    ({"listeners": both(changes=changed("source_connected", "", 4), source_lost="closed with code 4003: go away")},
     "warn", "Connections to the source break", "The last ended so: closed with code 4003: go away.", "Look at"),
    # listeners
    ({"listeners": ()}, "bad", "No listener is known", "Nothing is known of", "Name the listeners in LISTENERS"),
    ({"listeners": both(error=REFUSED), "database": DatabaseState(settled_up_to="j.10"), "producer": WAITS}, "bad",
     "Listeners a and b do not answer (nobody listens there)", "Nothing is consumed. 2,500 accepted events wait",
     "Start it again"),
    ({"listeners": (listener("a", error=SILENT), listener("b", standing_by=3))}, "warn",
     f"Listener a does not answer ({SILENT})",
     "Listener b goes on, and takes over what was held there when its lease ends (3 events stand by).",
     "Its process hangs, is stopped"),
    ({"database": DatabaseState(listeners_seen={"a": Mark(999.0, 4), "b": Mark(999.0, 1)})}, "warn",
     "Within 10 minutes processes ended without order: listener a 3 times", "may have run twice", "crash_loop"),
    ({"listeners": (listener("a", **NO_ROOM), listener("b"))}, "bad",
     "Listener a cannot write dead letters (f: no room)", "7 events are held in memory", "Make room"),
    ({"listeners": (listener("a", ready=False, reasons=("reading: memory is full",)), listener("b"))}, "bad",
     "Listener a takes no new work (memory is full)", "reads nothing new", "as soon as there is room"),
    ({"listeners": (listener("a", ready=False, breakers={"postgres": "closed"}, since={"storing": 900.0},
                             reasons=("reading: PostgreSQL takes no rows", "storing: PostgreSQL takes no rows: a lock"),
                             ),)},
     "bad", "Listener a takes no new work (PostgreSQL takes no rows: a lock)", "None becomes", "a lock on the"),
    ({"listeners": both(routes_paused={"order.*": "ConnectionError: refused"}, pausing=20)}, "bad",
     "The route order.* pauses: nearly every attempt fails (ConnectionError: refused)",
     "40 events wait in the memory of listeners a and b", "first success ends the pause"),
    ({"listeners": (listener("a", **MOVING | {"since": {"claims": 900.0}}), listener("b"))}, "bad",
     "Listener a takes no new work (a live peer keeps its claims elsewhere)", "in different", "restart of this one"),
    ({"listeners": (listener("a", ready=False, reasons=("progress: nothing moved",)),)}, "bad",
     "Listener a takes no new work (nothing moved)", "not settled", "a restart hands"),
    ({"listeners": (listener("a", loop_lag=2.5),)}, "warn", "The event loop of listener a is 2.5 s late",
     "may lose its leases", "A handler blocks it"),
    ({"listeners": (listener(loop_lag=15.8, ready=False, since={"claims": 999.0}, reasons=NOT_CONFIRMED),)}, "warn",
     "Listener a stood still for 16 s", "peers took its events over", "Its process was stopped"),
    ({"listeners": (listener("a", ready=False, since={"claims": 990.0}, reasons=NOT_CONFIRMED), listener("b"))}, "bad",
     "Listener a does not reach PostgreSQL, though it answers here", "listener b works on", "network"),
    ({"listeners": (listener("a", oldest=95.0),)}, "warn", "An event lies unsettled in the memory of listener a",
     "The cursor waits", "Its handler hangs"),
    ({"listeners": (listener("a", unmeasured=SILENT),)}, "warn", f"The figures of listener a cannot be read ({SILENT})",
     "it works", "/metrics"),
    ({"listeners": both(claim_seconds=0.5)}, "warn",
     "Redis, or the way there, is slow: claiming a batch takes listeners a and b up to 0.5 s", "later", "load"),
    ({"listeners": both(store_seconds=1.0)}, "warn",
     "PostgreSQL, or the way there, is slow: storing a batch takes listeners a and b up to 1 s", "later", "load"),
    ({"listeners": (listener("a", url="http://1"), listener("a", url="http://2"))}, "bad",
     "2 listeners are called a (http://1, http://2)", "cannot tell them apart", "an INSTANCE_ID of its own"),
    ({"database": DatabaseState(listeners_seen={"a": Mark(999.0, 2, 2), "b": Mark(999.0, 1, 1)})}, "bad",
     "2 listeners are called a", "Nothing is stored twice", "an INSTANCE_ID of its own"),
    # flow
    ({"producer": WAITS, "listeners": both(rates=Rates(stored=50.0))}, "warn", "2,500 events wait to be settled",
     "0 a second come in, 100 are settled; all is settled in about 25 s.", "Wait, if it falls"),
    ({"producer": Producer(url="http://p", ready=True, newest=12), "stalled": 75.0}, "bad",
     "2 events wait, and nothing moves", "safe in the journal", "Restart the listeners one by one"),
    # letters
    (letters(), "warn", "2 dead letters wait", "2 exhausted in handle (KeyError)", "Fix the cause"),
    (letters(stage="store", error="ConnectionRefusedError"), "warn", "2 dead letters wait", "exhausted in store",
     "A server was away when they failed. Once it is back, replay them"),
    (letters(error="HandlerTimeout"), "warn", "2 dead letters wait: exhausted in handle (HandlerTimeout)", "are kept",
     "The handler hangs for some events"),
    (letters("effect", "effect", "EffectRefused"), "warn", "2 dead letters wait: undelivered effect (EffectRefused)",
     "their events are rows: 2 undelivered effect", "EFFECT_HOSTS"),
    (letters("crash_loop"), "warn", "2 dead letters wait", "crash_loop", "An event killed each process"),
    (letters() | {"listeners": both(rates=Rates(buried=1.0))}, "warn", "2 dead letters wait, and more come",
     "KeyError", "replay"),
    ({"letter_files": (LetterFile(path="f", by_state={"quarantined": 2}),)}, "warn",
     "2 dead letters are in quarantine", "No replay takes them", "restore"),
    ({"letter_files": (LetterFile(path="f", damaged=3),)}, "warn", "f has 3 damaged lines", "neighbours", "copy"),
    ({"letter_files": (LetterFile(path="f", error="cannot read f"),)}, "warn",
     "Dead letters cannot be read: cannot read f", "not counted", "LETTERS"),
    ({"database": DatabaseState(audit=LastAudit(at=900.0, who="ana@host", accepted=7, wrong={"damaged_lines": 1_000}))},
     "bad", "The last audit is not clean: 1,000 damaged lines", "7 accepted events, and was run by ana@host",
     "audit again"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "level", "what", "affected", "todo"), CASES)
def test_one_cause_is_one_problem(values: dict, level: str, what: str, affected: str, todo: str):
    judged = verdict(picture(**values))
    assert [one.what for one in judged.problems] == [judged.problems[0].what]
    (problem,) = judged.problems
    assert (judged.level, problem.level) == (level, level)
    assert problem.what.startswith(what)
    assert not problem.what.endswith(".")
    assert affected in problem.affected
    assert todo in problem.todo
    assert judged.sentence.startswith(problem.what)
    assert judged.sentence.endswith(problem.todo)


def test_listeners_that_work_without_redis_use_no_other_one():
    some = (listener("a", places=("redis:1",)), listener("b", degraded=True, places=("redis:2", "postgres:1")))
    assert picture(listeners=some).redis_places == {"redis:1": ("a",)}
    assert picture(listeners=(*some, listener("c", error=REFUSED, places=("redis:3",)))).redis_places == {
        "redis:1": ("a",)
    }


def test_the_most_frequent_failure_is_called_most_only_if_it_is_and_the_commands_take_all_files():
    def kinds(*counts: int) -> LetterFile:
        found = tuple(FailureGroup(f"f{n}", "exhausted", "handle", f"E{n}", count) for n, count in enumerate(counts))
        return LetterFile(path=f"dir {counts[0]}/f", waiting=sum(counts), kinds=found)

    (mixed,) = problems_of(picture(letter_files=(kinds(4, 4), kinds(3, 3, 3))))
    assert mixed.what == "17 dead letters wait, of 3 kinds or more"
    assert mixed.commands == ("dlq groups 'dir 4/f' 'dir 3/f'", "dlq replay 'dir 4/f' 'dir 3/f' --canary 10")
    (mostly,) = problems_of(picture(letter_files=(kinds(9, 1),)))
    assert mostly.what == "10 dead letters wait: mostly exhausted in handle (E0)"


def test_every_problem_that_names_the_runbook_names_a_heading_of_it():
    headings = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    known = {one.runbook for values, *_ in CASES for one in problems_of(picture(**values))}
    assert len(known) > 12
    assert known - {""} <= headings


def test_no_command_holds_what_is_not_known():
    for values, *_ in CASES:
        for problem in problems_of(picture(**values)):
            assert all("None" not in command for command in problem.commands)


def test_the_listeners_say_since_when_and_the_first_of_them_counts():
    judged = verdict(picture(database=AWAY, listeners=(listener("a", **NO_PG), listener("b", **NO_PG))))
    assert judged.problems[0].since == 940.0
    assert judged.sentence.startswith("PostgreSQL is away (nobody listens there), for 1 min. Start PostgreSQL again")


def test_when_a_listener_was_last_seen_is_asked_of_postgres():
    listeners_seen = DatabaseState(listeners_seen={"a": Mark(700.0, 1)})
    judged = verdict(picture(database=listeners_seen, listeners=(listener("a", error=REFUSED), listener("b"))))
    assert judged.sentence.startswith("Listener a does not answer (nobody listens there), for 5 min. Start it again")


def test_one_listener_that_never_answered_gets_the_name_that_is_left():
    listeners_seen = DatabaseState(listeners_seen={"a": Mark(999.0, 1), "b": Mark(990.0, 1)})
    unknown = listener("127.0.0.1:3001", url="http://127.0.0.1:3001", error=REFUSED)
    shown = named(picture(database=listeners_seen, listeners=(listener("a"), unknown)))
    assert [one.name for one in shown.listeners] == ["a", "b"]
    assert named(picture(database=listeners_seen, listeners=(unknown,))).listeners == (unknown,), (
        "it could be either one"
    )


def test_letters_of_a_server_that_is_away_are_reported_after_it():
    judged = verdict(picture(database=AWAY, listeners=both(**NO_PG), **letters(stage="store")))
    assert [one.key for one in judged.problems] == ["postgres", "letters"]
    assert judged.sentence.endswith("(And one more.)")


def test_several_causes_are_several_problems_the_worst_first():
    half = both(**NO_PG | {"degraded": True, "breakers": {"redis": "open", "postgres": "open"}})
    judged = verdict(picture(listeners=(*half, listener("c", error=REFUSED))))
    assert [(one.key, one.level) for one in judged.problems] == [
        ("postgres", "bad"), (f"away: {REFUSED}", "warn"), ("redis", "warn"),
    ]  # fmt: skip
    assert "that is away too: nothing new is started" in judged.problems[2].affected
    assert judged.problems[2].what == "Listeners a and b do not reach Redis either"
    assert "look at the network of listeners a and b first" in judged.problems[2].todo
    assert judged.sentence.endswith("(And 2 more.)")


def lived(*pictures: Picture) -> tuple[Past, Verdict]:
    past = Past()
    for one in pictures:
        past = remembered(past, one, problems_of(one))
    return past, verdict(pictures[-1], past)


def at(moment: float, **values: object) -> Picture:
    return picture(at=moment, **values)


def test_an_undated_problem_is_dated_by_when_it_was_first_seen():
    gone = {"producer": Producer(url="http://p", error=REFUSED)}
    _, judged = lived(at(100.0), at(105.0, **gone), at(125.0, **gone))
    assert judged.problems[0].since == 105.0
    assert judged.sentence.startswith("The producer is away (nobody listens there), for 20 s.")


def test_a_flapping_problem_is_one_episode_reported_when_it_is_over():
    gone = {"listeners": (listener("a", error=REFUSED), listener("b"))}
    end = 103.0 + SAME_WITHIN + 1
    past, judged = lived(at(100.0, **gone), at(101.0), at(103.0, **gone), at(104.0), at(end))
    (episode,) = past.episodes
    assert (episode.began, episode.seen, episode.is_over) == (100.0, 103.0, True)
    assert judged.lately == (episode,)
    assert judged.sentence.endswith(
        "Lately wrong: Listener a does not answer (nobody listens there), for 3 s until 11 s ago."
    )
    assert lived(at(100.0, **gone), at(103.0 + LATELY))[1].sentence.endswith("no dead letter waits.")


def test_an_episode_is_reported_as_what_it_was_for_the_longest_time():
    just_gone, back = {"database": AWAY}, {"database": DatabaseState(back_for=1.0), "listeners": both(**NO_PG)}
    gone = {"database": AWAY, "listeners": both(**NO_PG)}
    past, _ = lived(at(1000.0, **just_gone), at(1001.0, **gone), at(1030.0, **gone), at(1031.0, **back), at(1033.0))
    assert [one.what for one in past.episodes] == ["PostgreSQL is away (nobody listens there)"]


def test_the_worst_and_longest_past_problem_is_reported():
    slow, gone = {"listeners": both(store_seconds=1.0)}, {"database": AWAY}
    starting = {"listeners": both(ready=False, reasons=("running: the listener is starting",))}
    pictures = [at(100.0, **slow), at(101.0), at(110.0, **gone), at(120.0, **gone), at(121.0, **starting), at(140.0)]
    _, judged = lived(*pictures)
    assert [one.key for one in judged.lately] == ["running: a,b", "postgres"]
    assert "Lately wrong: PostgreSQL does not answer this console" in judged.sentence


def test_a_problem_that_comes_back_later_is_another_episode():
    gone = {"database": AWAY}
    past, judged = lived(at(100.0, **gone), at(101.0), at(200.0, **gone))
    assert [(one.began, one.is_over) for one in past.episodes] == [(100.0, True), (200.0, False)]
    assert judged.problems[0].since == 200.0


def test_spans_are_reported_in_their_largest_unit():
    assert [age(one) for one in (-1, 5, 90, 7_200, 200_000)] == ["0 s", "5 s", "2 min", "2 h", "2 d"]


def test_a_pause_that_a_person_ordered_is_named_with_who_and_why_and_is_worse_when_it_is_long():
    def paused(since: float) -> Verdict:
        ordered = (Pause("listener", "a", "ana", "new disk", since), Pause("route", "x y", "ana", "test", since))
        return verdict(picture(listeners=(listener("a", pauses=ordered), listener("b", pauses=ordered[1:]))))

    brief = paused(900.0)
    assert brief.level == "warn"
    assert brief.sentence.startswith("The listener a is paused by ana: new disk, for 2 min. Resume it")
    assert [one.commands for one in brief.problems] == [("unlost resume listener a",), ("unlost resume route 'x y'",)]
    assert "memory of listeners a and b" in brief.problems[1].affected
    assert paused(1_000.0 - 3_601).level == "bad"
