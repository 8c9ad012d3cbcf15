"""Text output of drills: their list, the progress of a drill, and its verdict."""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.runner import Phase
from unlost.ops.faults.drills.verdict import DrillResult

WIDTH = 79
NAME = 25
COLUMNS = (("events", 8), ("rows", 8), ("lost", 5), ("doubled", 8), ("letters", 8), ("extra", 6), ("progress", 9),
           ("normal", 7))  # fmt: skip


def listed(drills: Iterable[Drill]) -> Iterator[str]:
    """List each drill with its story, in at most 80 columns."""
    for drill in drills:
        lines = textwrap.wrap(drill.story, WIDTH - NAME - 1)
        yield from (f"{drill.name if not i else '':<{NAME}} {line}" for i, line in enumerate(lines))


@contextmanager
def progress(console: Console) -> Iterator[Callable[[Phase], None]]:
    """Show progress: on a terminal as one changing line, otherwise as one line per phase."""
    last = ""

    def line(phase: Phase) -> str:
        return f"  {last:<11} published {phase.published:>7,}  rows {phase.rows:>7,}"

    if not console.is_terminal:

        def write(phase: Phase) -> None:
            nonlocal last
            if phase.note:
                console.print(f"  {phase.note}", markup=False)
            if phase.what and phase.what != last:
                last = phase.what
                console.print(line(phase), markup=False)

        yield write
        return
    with console.status("  starting") as status:

        def show(phase: Phase) -> None:
            nonlocal last
            last = phase.what or last
            if phase.note:
                console.print(f"  {phase.note}", markup=False)
            status.update(Text(line(phase)))

        yield show


def verdict(console: Console, result: DrillResult, reasons: Iterable[str]) -> None:
    """Print the verdict on one drill."""
    console.print(
        f"  {result.published:,} published, {result.rows:,} rows: {result.lost} lost, {result.doubled} doubled\n"
        f"  {result.letters:,} dead letters, {result.letters_after_replay:,} after the replay; "
        f"{result.extra_handler_runs:,} handler runs beyond one per event\n"
        f"  progress after {_seconds(result.seconds_to_progress)}, "
        f"recovered after {_seconds(result.seconds_to_recover)}",
        markup=False,
    )
    if result.upgraded_from is not None:
        console.print(f"  upgraded from {result.upgraded_from}", markup=False)
    if result.seconds_p99_before is not None and result.seconds_p99_during is not None:
        before, during = result.seconds_p99_before, result.seconds_p99_during
        console.print(f"  p99 from publishing to row: {before:.3f} s before, {during:.3f} s meanwhile", markup=False)
    for reason in reasons:
        console.print(Text(f"  failed: {reason}", style="red"))
    console.print(Text(f"  {'PASS' if result.passed else 'FAIL'}", style="bold green" if result.passed else "bold red"))


def summary(console: Console, results: list[DrillResult]) -> None:
    """Print all verdicts, one per line."""
    console.print(f"\n{'drill':<{NAME - 1}}" + "".join(f"{head:>{width}}" for head, width in COLUMNS), markup=False)
    for one in results:
        values = (
            f"{one.published:,}", f"{one.rows:,}", one.lost, one.doubled, one.letters, one.extra_handler_runs,
            _seconds(one.seconds_to_progress), _seconds(one.seconds_to_recover),
        )  # fmt: skip
        row = "".join(f"{value:>{width}}" for value, (_, width) in zip(values, COLUMNS, strict=True))
        line = f"{one.drill:<{NAME - 1}}{row}{'' if one.passed else '  FAIL'}"
        console.print(Text(line, style="" if one.passed else "red"))
    failed = [one.drill for one in results if not one.passed]
    line = f"{len(failed)} of {len(results)} failed: {', '.join(failed)}" if failed else f"all {len(results)} passed"
    console.print(Text(line, style="bold red" if failed else "bold green"))


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f} s"
