"""The output of ``unlost top`` fits 80 columns, whatever the figures."""

import io

from rich.console import Console

from unlost.ops.watch.picture import DatabaseState, LetterFile, Listener, Picture, Producer, Rates
from unlost.ops.watch.routes import RouteRates, routes_of
from unlost.ops.watch.table import render
from unlost.ops.watch.verdict import verdict

HALF = Listener(url="v", name="b", ready=True, degraded=True)


def lines_of(picture: Picture) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(render(picture, verdict(picture), "q quits"))
    return out.getvalue().splitlines()


def test_a_busy_and_broken_system_fits_80_columns():
    busy = Rates(received=123_456.0, stored=98_765.4, retried=1_234.5)
    picture = Picture(
        at=1e9,
        listeners=(
            Listener(
                url="u",
                name="listener-with-a-long-name",
                ready=True,
                degraded=True,
                rates=busy,
                lag=12_345_678,
                holds=50_000,
                standing_by=49_999,
                letters=1_000_000,
                breakers={"redis": "open", "postgres": "half-open"},
            ),
            Listener(url="http://127.0.0.1:3001", name="127.0.0.1:3001", error="nobody listens there"),
        ),
        producer=Producer(url="p", ready=True, newest=5, accepted=2.25, clients=2),
        database=DatabaseState(rows=10_000_000, milliseconds=3.2),
        letter_files=(LetterFile(path="f", waiting=12, oldest_waiting_at=0.0, by_state={"quarantined": 1}),),
    )
    lines = lines_of(picture)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    for shown in ("degraded", "away", "pg,redis", "98.8k", "12.3M", "50.0k", "12 waiting", "10,000,000 rows"):
        assert shown in text
    assert "…" not in text.replace("listener-with…", "")


def test_a_problem_stands_on_top_with_its_effect_and_remedy():
    away = Listener(url="u", name="a", error="nobody listens there")
    text = " ".join(" ".join(lines_of(Picture(at=0, listeners=(away, HALF)))).split())
    assert text.startswith("Listener a does not answer (nobody listens there). Listener b goes on")
    assert "Start it again" in text
    assert "$ curl -m 2 u/health/live" in text
    assert "Redis answers again, and listener b still keeps claims in PostgreSQL" in text


def test_the_routes_of_all_listeners_stand_together_and_fit():
    slow = RouteRates(
        name="reserve_stock_of_an_order_with_many_lines", pausing=12_345_678, failed=9_876.0, slow_seconds=300
    )
    quick = RouteRates(name="mail", succeeded=123_456.0, retried=4, typical_seconds=0.0025, slow_seconds=0.005)
    listeners = (Listener(url="u", name="a", routes=(quick, slow)), Listener(url="v", name="b", routes=(quick,)))
    picture = Picture(at=0, listeners=listeners)
    assert [(one.name, one.succeeded) for one in routes_of([(quick, slow), (quick,)])] == [
        (slow.name, 0),
        ("mail", 246_912.0),
    ]
    lines = lines_of(picture)
    assert max(map(len, lines)) <= 80
    at = next(number for number, line in enumerate(lines) if line.startswith("ROUTE"))
    assert lines[at + 1].split()[1:] == ["9876", "9876", "0", "-", "300s", "12.3M"]
    assert lines[at + 2].split() == ["mail", "247k", "0", "8", "0.0025s", "0.005s", "0"]
