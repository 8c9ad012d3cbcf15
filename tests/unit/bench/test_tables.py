"""The tables at the end of a run: each miss is visible, and only bars decide how a run ends."""

import io

from rich.console import Console

from unlost.ops.bench import goals
from unlost.ops.bench.figures import Latencies, Measured, missed_bars
from unlost.ops.bench.results import Compared, Findings
from unlost.ops.bench.tables import tables


def printed(found: Findings, *, noisy: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=200)
    for table in tables(found, noisy=noisy):
        console.print(table)
    return out.getvalue()


def line_of(text: str, about: str) -> list[str]:
    (found,) = [line for line in text.splitlines() if about in line]
    return [cell.strip() for cell in found.strip("| ").split("|")]


def test_a_goal_that_is_not_reached_is_shown_as_missed_and_fails_nothing() -> None:
    found = Findings(rates={"pipeline": Measured(90_000, 1.0, 0.9, 0.9)}, ratios={"by_hand": 0.9})
    text = printed(found)
    assert line_of(text, "pipeline, one listener") == [
        "pipeline, one listener, events/s",
        "90,000.00",
        "≥ 120,000",
        "missed",
    ]
    assert line_of(text, "of all processes")[1:] == ["20.00", "≤ 15", "missed"]
    assert missed_bars(found.ratios) == []


def test_a_goal_that_is_reached_is_shown_as_met() -> None:
    text = printed(Findings(ratios={"redis_bytes_handled": 39.0}))
    assert line_of(text.split("Bars")[0], "Redis bytes")[1:] == ["39.00", "≤ 40", "met"]


def test_a_run_shows_only_what_it_has_measured() -> None:
    assert goals.measured(Findings()) == []
    assert "Goals" not in printed(Findings())


def test_each_rival_stands_beside_what_it_promises() -> None:
    one = Compared(Measured(1_000, 0.5, 0.01, 0.02), Latencies(0.6, 1.8, 3.0), "one row for each id")
    text = printed(Findings(comparison={"a batch loop": one}))
    assert line_of(text, "a batch loop") == ["a batch loop", "2,000", "30.0", "0.6", "1.8", "one row for each id"]


def test_loops_that_insert_row_by_row_are_a_footnote() -> None:
    bars, footnote = printed(Findings(ratios={"sequential": 50.0, "limit": 0.8})).split("Beside row by row")
    assert "one event after another" in footnote
    assert "processor time" in bars
