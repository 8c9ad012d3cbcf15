"""Each thing that can be wrong is named, with what to do, the worst first; and nothing else is."""

import pytest

from ops.watch.picture import Database, LetterFile, Listener, Picture, Producer, Rates
from ops.watch.verdict import age, verdict


def listener(name: str = "a", **values: object) -> Listener:
    return Listener(**{"url": f"http://{name}", "name": name, "ready": True, "cursor": "j.10"} | values)


def picture(**values: object) -> Picture:
    well = {
        "at": 1_000.0,
        "listeners": (listener("a"), listener("b")),
        "producer": Producer(url="p", ready=True, newest=10),
        "database": Database(),
        "letter_files": (LetterFile(path="f"),),
    }
    return Picture(**well | values)


def test_a_system_that_is_well_is_called_so():
    busy = listener(rates=Rates(stored=120.0))
    assert verdict(picture()).level == "good"
    assert verdict(picture(listeners=(busy,))).sentence == (
        "Everything is all right: 1 listener is ready, 120 events a second are stored, no dead letter waits."
    )


@pytest.mark.parametrize(
    ("values", "level", "what"),
    [
        ({"listeners": ()}, "bad", "No listener is known"),
        (
            {"listeners": (listener(error="gone"), listener("b", error="gone"))},
            "bad",
            "No listener can be reached (gone)",
        ),
        ({"listeners": (listener(), listener("b", error="gone"))}, "warn", "Listener b cannot be reached (gone)"),
        ({"listeners": (listener("b", degraded=True),)}, "warn", "Listener b works without Redis"),
        (
            {"listeners": (listener("b", ready=False, reasons=("source: lost",)),)},
            "bad",
            "Listener b takes no new work",
        ),
        (
            {"listeners": (listener("b", breakers={"postgres": "open"}),)},
            "bad",
            "Listener b gets no answer from postgres",
        ),
        ({"listeners": (listener("b", breakers={"redis": "open"}),)}, "warn", "Listener b gets no answer from redis"),
        ({"listeners": (listener("b", loop_lag=2.5),)}, "warn", "The event loop of listener b is 2.5 s late"),
        ({"producer": Producer(url="p", error="gone")}, "bad", "The producer cannot be reached (gone)"),
        (
            {"producer": Producer(url="p", reasons=("journal: full",))},
            "bad",
            "The producer takes no events (journal: full)",
        ),
        ({"database": Database(error="refused")}, "bad", "PostgreSQL cannot be asked (refused)"),
        ({"producer": Producer(url="p", ready=True, newest=5_010)}, "warn", "5,000 events wait to be settled"),
        (
            {"producer": Producer(url="p", ready=True, newest=12), "stalled": 75.0},
            "bad",
            "2 events wait, and nothing has moved",
        ),
        (
            {"letter_files": (LetterFile(path="f", waiting=1, oldest_waiting_at=400.0),)},
            "warn",
            "1 dead letter waits, the oldest for 10 min",
        ),
        (
            {"letter_files": (LetterFile(path="f", by_state={"quarantined": 2}),)},
            "warn",
            "2 dead letters are in quarantine",
        ),
        ({"letter_files": (LetterFile(path="f", damaged=3),)}, "warn", "f has 3 damaged lines"),
        (
            {"letter_files": (LetterFile(path="f", error="cannot read f"),)},
            "warn",
            "Dead letters cannot be read: cannot read f",
        ),
    ],
)
def test_one_thing_that_is_wrong_is_the_sentence(values: dict, level: str, what: str):
    judged = verdict(picture(**values))
    assert (judged.level, len(judged.problems)) == (level, 1)
    assert judged.sentence.startswith(what)
    assert judged.sentence.endswith(judged.problems[0].todo)
    assert judged.problems[0].todo


def test_a_degraded_listener_is_told_once_though_its_breaker_is_open():
    judged = verdict(picture(listeners=(listener(degraded=True, breakers={"redis": "open"}),)))
    assert len(judged.problems) == 1


def test_what_several_suffer_alike_is_told_once():
    broken = {"degraded": True, "ready": False, "reasons": ("claims: away",), "breakers": {"postgres": "open"}}
    judged = verdict(picture(listeners=(listener("a", **broken), listener("b", **broken), listener("c", **broken))))
    assert [one.what for one in judged.problems] == [
        "Listeners a, b and c get no answer from postgres.",
        "Listeners a, b and c take no new work (claims: away).",
        "Listeners a, b and c work without Redis: claims go through PostgreSQL.",
    ]


def test_the_worst_comes_first_and_the_rest_is_counted():
    judged = verdict(
        picture(
            listeners=(listener(degraded=True), listener("b", error="gone")),
            producer=Producer(url="p", error="gone"),
        )
    )
    assert judged.level == "bad"
    assert judged.sentence.startswith("The producer")
    assert judged.sentence.endswith("(And 2 more.)")


def test_spans_are_told_in_their_largest_unit():
    assert [age(one) for one in (-1, 5, 90, 7_200, 200_000)] == ["0 s", "5 s", "2 min", "2 h", "2 d"]
