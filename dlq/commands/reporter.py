"""How a replay tells what it does: in words with a bar, as one JSON value at its end, or as JSON lines all along."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unlost.dlq.commands.render import print_plan, print_report, say_json
from unlost.dlq.replay.plan import Plan, Report
from unlost.ops.kit.command import say_json_text

APART = 0.2
"""Seconds between two lines of progress, at least."""

Advance = Callable[[Report], None]


class Reporter(Protocol):
    """Tells of one replay."""

    def planned(self, found: Plan) -> None:
        """A dry run ends with this."""

    def begins(self, found: Plan) -> None:
        """The letters are about to be run."""

    def progress(self, total: int) -> contextlib.AbstractContextManager[Advance]:
        """While letters are run."""

    def ended(self, found: Plan, report: Report) -> None:
        """It is over."""


class Words:
    """For people."""

    def planned(self, found: Plan) -> None:
        """What would be done."""
        print_plan(found)

    def begins(self, found: Plan) -> None:
        """What will be done."""
        print_plan(found)
        sys.stdout.flush()

    def progress(self, total: int) -> contextlib.AbstractContextManager[Advance]:
        """A bar."""
        return _bar(total)

    def ended(self, found: Plan, report: Report) -> None:
        """The sums."""
        print_report(report, found.letters)


class AsJson:
    """For programs that wait for the end."""

    def planned(self, found: Plan) -> None:
        """The plan alone."""
        say_json({"plan": plan_values(found)})

    def begins(self, found: Plan) -> None:
        """Nothing: there will be one value."""

    def progress(self, total: int) -> contextlib.AbstractContextManager[Advance]:
        """A bar on stderr disturbs nobody."""
        return _bar(total)

    def ended(self, found: Plan, report: Report) -> None:
        """Everything."""
        say_json(_end(found, report))


class Follow:
    """For programs that show how it goes: a line a step."""

    def planned(self, found: Plan) -> None:
        """The plan alone."""
        _line({"plan": plan_values(found)})

    def begins(self, found: Plan) -> None:
        """The plan first."""
        _line({"plan": plan_values(found)})

    @contextlib.contextmanager
    def progress(self, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the plan has told it
        """Sums, some times a second."""
        last = 0.0

        def advance(report: Report) -> None:
            nonlocal last
            if time.monotonic() - last >= APART:
                last = time.monotonic()
                _line({"progress": report_values(report)})

        yield advance

    def ended(self, found: Plan, report: Report) -> None:
        """Everything, once more."""
        _line(_end(found, report))


@contextlib.contextmanager
def _bar(total: int) -> Iterator[Advance]:
    """A bar on stderr, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("replay", total=total, failed=0)
        yield lambda report: progress.update(bar, completed=report.done, failed=report.failed)


def _line(value: dict[str, Any]) -> None:
    say_json_text(msgspec.json.encode(value).decode())
    sys.stdout.flush()


def _end(found: Plan, report: Report) -> dict[str, Any]:
    return {"plan": plan_values(found), "report": report_values(report), "exit_code": report.exit_code()}


def plan_values(found: Plan) -> dict[str, Any]:
    """A plan as plain values."""
    return {
        "letters": found.letters,
        "by_reason": found.by_reason,
        "passed_over": found.over,
        "damaged": len(found.damages),
    }


def report_values(report: Report) -> dict[str, Any]:
    """A report as plain values."""
    values: dict[str, Any] = msgspec.to_builtins(report)
    return {"resolved": report.resolved, **values}
