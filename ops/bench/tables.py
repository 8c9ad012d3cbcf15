"""The tables at the end of a run. Pure: in Markdown, so that a document can take them as they are."""

from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.table import Table

from unlost.ops.bench import goals
from unlost.ops.bench.figures import BARS, Bar
from unlost.ops.bench.results import Findings
from unlost.ops.bench.soak import Soak

FOOTNOTE = ("sequential", "concurrent")
"""Ratios of loops that insert row by row, as nobody does who cares for throughput."""


def tables(found: Findings, *, noisy: bool) -> Iterator[Table]:
    """Return every table that this run has figures for."""
    if found.comparison:
        yield _comparison(found)
    if found.soak:
        yield _slopes(found.soak)
        yield _courses(found.soak)
    if reached := goals.measured(found):
        yield _table("Goals", ("figure", "found", "goal", ""), (_goal(goal, value) for goal, value in reached))
    ratios = [name for name in found.ratios if name not in FOOTNOTE]
    yield _table("Bars", ("figure", "found", "bar", ""), (_bar(name, found, noisy=noisy) for name in ratios))
    if beside := [name for name in FOOTNOTE if name in found.ratios]:
        yield _table(
            "Beside row by row", ("figure", "found", "bar", ""), (_bar(name, found, noisy=noisy) for name in beside)
        )


def _comparison(found: Findings) -> Table:
    heads = ("", "backlog, events/s", "CPU µs an event", "p50 at 1,000/s, ms", "p99, ms", "promises")
    return _table(
        "Beside what experts write by hand",
        heads,
        (
            (
                name, f"{one.backlog.rate:,.0f}", f"{one.backlog.whole_cost:.1f}", f"{one.seen.p50:.1f}",
                f"{one.seen.p99:.1f}", one.promises,
            )
            for name, one in found.comparison.items()
        ),
    )  # fmt: skip


def _slopes(soak: Soak) -> Table:
    rows = ((name, f"{slope:,.1f}") for name, slope in soak.slopes.items())
    return _table(f"Slopes at {soak.rate:,} events/s", ("figure", "slope"), rows)


def _courses(soak: Soak) -> Table:
    rows = ((name, *(f"{value:,.1f}" for value in thirds)) for name, thirds in soak.courses.items())
    return _table("By thirds of the time", ("median of windows", "first", "middle", "last"), rows)


def _goal(goal: goals.Goal, value: float) -> Sequence[str]:
    return goal.about, f"{value:,.2f}", _limit(goal), _met(met=goal.met(value))


def _bar(name: str, found: Findings, *, noisy: bool) -> Sequence[str]:
    bar, value = BARS[name], found.ratios[name]
    verdict = _met(met=bar.met(value))
    if noisy and not bar.met(value) and bar.met(value, noisy=True):
        verdict = "[yellow]missed, but one round may be noise[/]"
    return bar.about, f"{value:,.2f}", _limit(bar), verdict


def _limit(one: Bar | goals.Goal) -> str:
    return f"{'≤' if one.at_most else '≥'} {one.limit:,g}"


def _met(*, met: bool) -> str:
    return "[green]met[/]" if met else "[red]missed[/]"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=box.MARKDOWN, header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number in (0, len(heads) - 1) and head != "slope" else "right")
    for row in rows:
        table.add_row(*row)
    return table
