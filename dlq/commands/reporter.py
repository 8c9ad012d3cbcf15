"""How a replay reports: as text with a progress bar, as one JSON value at its end, or as JSON lines while it runs."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unlost.dlq.commands.render import print_plan, print_report, say_json
from unlost.dlq.replay.plan import ReplayReport
from unlost.dlq.store.port import Plan
from unlost.ops.kit.command import say_json_text

APART = 0.2
"""Seconds between two lines of progress, at least."""

Advance = Callable[[ReplayReport], None]


class Reporter(Protocol):
    """Reports on one replay."""

    def planned(self, found: Plan) -> None:
        """Report the plan of a dry run, and nothing else."""

    def begins(self, found: Plan) -> None:
        """Report the plan of a run that starts now."""

    def progress(self, total: int) -> contextlib.AbstractContextManager[Advance]:
        """Report progress while letters are run."""

    def ended(self, found: Plan, report: ReplayReport) -> None:
        """Report the result."""


class TextReporter:
    """For people."""

    def planned(self, found: Plan) -> None:
        """Print the plan."""
        print_plan(found)

    def begins(self, found: Plan) -> None:
        """Print the plan."""
        print_plan(found)
        sys.stdout.flush()

    def progress(self, total: int) -> contextlib.AbstractContextManager[Advance]:
        """Show a progress bar."""
        return _bar(total)

    def ended(self, found: Plan, report: ReplayReport) -> None:
        """Print the sums."""
        print_report(report, found.letters)


class JsonReporter:
    """For programs that wait for the end."""

    def planned(self, found: Plan) -> None:
        """Print the plan."""
        say_json({"plan": plan_values(found)})

    def begins(self, found: Plan) -> None:
        """Print nothing: the only value comes at the end."""

    def progress(self, total: int) -> contextlib.AbstractContextManager[Advance]:
        """Show a progress bar on stderr, apart from the JSON."""
        return _bar(total)

    def ended(self, found: Plan, report: ReplayReport) -> None:
        """Print plan, report and exit code as one value."""
        say_json(_end(found, report))


class JsonLinesReporter:
    """For programs that show progress: one line per step."""

    def planned(self, found: Plan) -> None:
        """Print the plan."""
        _line({"plan": plan_values(found)})

    def begins(self, found: Plan) -> None:
        """Print the plan."""
        _line({"plan": plan_values(found)})

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the plan has the total already
        """Print the sums several times a second."""
        last = 0.0

        def advance(report: ReplayReport) -> None:
            nonlocal last
            if time.monotonic() - last >= APART:
                last = time.monotonic()
                _line({"progress": report_values(report)})

        yield advance

    def ended(self, found: Plan, report: ReplayReport) -> None:
        """Print plan, report and exit code once more."""
        _line(_end(found, report))


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Advance]:
    """A progress bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("replay", total=total, failed=0)
        yield lambda report: progress.update(bar, completed=report.done, failed=report.failed)


def _line(value: dict[str, Any]) -> None:
    say_json_text(msgspec.json.encode(value).decode())
    sys.stdout.flush()


def _end(found: Plan, report: ReplayReport) -> dict[str, Any]:
    return {"plan": plan_values(found), "report": report_values(report), "exit_code": report.exit_code()}


def plan_values(found: Plan) -> dict[str, Any]:
    """A plan as plain values."""
    return {
        "letters": found.letters,
        "by_reason": found.by_reason,
        "passed_over": found.over,
        "damaged": len(found.damages),
    }


def report_values(report: ReplayReport) -> dict[str, Any]:
    """A report as plain values."""
    values: dict[str, Any] = msgspec.to_builtins(report)
    return {"resolved": report.resolved, **values}
