"""The command ``replay``: plan, lock, run, report. An interrupt lets work in flight finish; a second one does not."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import Field

from unlost.dlq.commands.changing import Locked, replay_guards, say_locked
from unlost.dlq.commands.options import as_usage, files_argument, files_of, filter_options, json_option, selection_of
from unlost.dlq.commands.render import warn_of
from unlost.dlq.commands.reporter import AsJson, Follow, Reporter, Words
from unlost.dlq.record.file import FileError
from unlost.dlq.record.query import Selection
from unlost.dlq.record.sidecar import Sidecars
from unlost.dlq.replay.handler_check import Declared, refusal, wrong_group
from unlost.dlq.replay.outcome import Rerun
from unlost.dlq.replay.plan import RESOLVED, Limits, Plan, Report, Snapshot, chosen, plan, snapshot
from unlost.dlq.replay.replaying import Item, Replay
from unlost.listener.app.settings import CURSOR_BYTES, ConnectionSettings
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.ops.kit.command import UsageProblem, command, run_through, say
from unlost.ops.kit.telemetry.logs import configure_logs

OpenRerun = Callable[["ReplaySettings"], Rerun]


class ReplaySettings(ConnectionSettings):
    """Where the letters are, and how to reach the servers that a listener uses."""

    letters: tuple[Path, ...] = Field((), description="Dead-letter files, directories or patterns, if no FILE is given")
    dead_letter_file: Path = Field(
        Path("failed_events.jsonl"), description="File of dead letters, if neither FILE nor LETTERS is given"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="Least severe line to log")


def replay_params() -> list[click.Parameter]:
    """The flags of ``replay`` in addition to its settings."""
    count, some = click.IntRange(min=0), click.IntRange(min=1)
    return [
        files_argument(), *filter_options(), json_option(),
        click.Option(["--follow"], is_flag=True, help="Print JSON lines while it runs: plan, progress, end."),
        click.Option(["--dry-run"], is_flag=True, help="Show the plan and stop."),
        click.Option(["--rate"], type=click.FloatRange(min=0), default=0.0, help="Letters per second, at most."),
        click.Option(["--limit"], type=count, default=0, help="Letters to replay, at most."),
        click.Option(["--canary"], type=count, default=0, help="Stop unless the first N are all stored (exit code 4)."),
        click.Option(["--max-failures"], type=count, default=0, help="Stop after so many failures (exit code 4)."),
        click.Option(["--max-replays"], type=some, default=3, show_default=True,
                     help="Quarantine a letter that has failed so many replays."),
        click.Option(["--all", "rejected"], is_flag=True, help="Also replay letters that a handler rejected for good."),
        click.Option(["--without-handler"], is_flag=True, help="Store the events without running a handler."),
        click.Option(["--other-handler"], is_flag=True, help="Allow another handler than the group's."),
        click.Option(["--concurrency"], type=some, default=16, show_default=True, help="Most letters in work at once."),
    ]  # fmt: skip


def replay_command(open_rerun: OpenRerun) -> click.Command:
    """Make the command; ``open_rerun`` opens the pipeline that its letters pass."""

    @command(
        ReplaySettings,
        examples=(
            "dlq replay failed_events.jsonl --dry-run",
            "dlq replay a.jsonl --canary 5 --rate 50 --max-failures 20",
            "dlq replay a.jsonl --reason exhausted --since 2h",
        ),
        params=replay_params(),
    )
    def replay(
        settings: ReplaySettings, *, files: tuple[Path, ...], as_json: bool, follow: bool, dry_run: bool,
        without_handler: bool, other_handler: bool, **values: Any,
    ) -> int:  # fmt: skip
        """Run the letters of FILES again, under their own ids, as a listener would.

        An event that is already stored resolves its letter. A failure is noted; it makes no second letter. It is safe
        to interrupt or repeat a replay, and to run it while listeners work. HANDLER must be the group's, or the
        replay is refused.

        Exit codes: 0 all resolved, 1 some failed or the servers went away, 2 usage or file, 3 locked,
        4 stopped by a threshold, 130 interrupted.
        """
        if without_handler and other_handler:
            raise UsageProblem("--without-handler and --other-handler contradict each other; give one of them")
        if without_handler:
            settings = settings.model_copy(update={"handler": "", "handler_version": ""})
        paths = files_of(settings, files)
        limits = Limits(
            **{name: values.pop(name) for name in ("rate", "limit", "canary", "max_failures", "max_replays")},
            concurrency=values.pop("concurrency"), max_event_bytes=settings.max_event_bytes + CURSOR_BYTES,
        )  # fmt: skip
        reporter = Follow() if follow else AsJson() if as_json else Words()
        job = Job(
            settings, paths, selection_of(values), limits, reporter, open_rerun,
            insists=without_handler or other_handler,
        )  # fmt: skip
        try:
            return job.show_plan() if dry_run else job.run()
        except FileError as error:
            raise as_usage(error) from None
        except Locked as error:
            return say_locked(error)

    return replay


class Job:
    """One run of the command."""

    def __init__(
        self, settings: ReplaySettings, paths: Sequence[Path], selection: Selection, limits: Limits, reporter: Reporter,
        open_rerun: OpenRerun, *, insists: bool = False,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._paths = paths
        self._selection = selection
        self._limits = limits
        self._reporter = reporter
        self._open_rerun = open_rerun
        self._insists = insists
        self._replay: Replay | None = None

    def show_plan(self) -> int:
        """Show what would be done."""
        found = plan(self._shots(), self._selection, self._limits.limit)
        warn_of(found.damages)
        if why := wrong_group(self._settings.group, found.groups) or self._refusal((), found):
            say(f"warning: {why}", err=True)
        self._reporter.planned(found)
        return RESOLVED

    def run(self) -> int:
        """Run the replay, with a lock on its files."""
        with replay_guards(self._paths):
            shots = self._shots()
            found = plan(shots, self._selection, self._limits.limit)
            warn_of(found.damages)
            if why := wrong_group(self._settings.group, found.groups):
                raise UsageProblem(why)
            self._reporter.begins(found)
            report = self._rerun_all(found, shots) if found.letters else Report()
        return self._report_end(found, report)

    def _shots(self) -> list[Snapshot]:
        return [snapshot(path) for path in self._paths]

    def _report_end(self, found: Plan, report: Report) -> int:
        self._reporter.ended(found, report)
        for why in (report.stopped and f"stopped: {report.stopped}", report.error and f"error: {report.error}"):
            if why:
                say(why, err=True)
        if report.interrupted:
            say("interrupted; run it again to go on", err=True)
        return report.exit_code()

    def _rerun_all(self, found: Plan, shots: Sequence[Snapshot]) -> Report:
        letters = chosen(shots, self._selection, self._limits.limit)
        configure_logs(self._settings.log_level, self._settings.instance_id)
        try:
            return run_through(self._loop(letters, found))
        except Misconfigured as error:
            raise UsageProblem(*error.mistakes) from None
        except (Transient, Permanent) as error:
            return Report(error=str(error))
        except TimeoutError:
            return Report(error="the replay could not become ready: Redis, PostgreSQL or a peer does not answer")
        except asyncio.CancelledError:  # the loop has ended, so there is no task left to cancel
            report = self._replay.report if self._replay else Report()
            report.interrupted = True
            return report

    def _refusal(self, live: Sequence[Declared], found: Plan) -> str:
        return "" if self._insists else refusal(self._settings.handler_name, live, found.handlers)

    async def _loop(self, letters: Iterator[Item], found: Plan) -> Report:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, task)
        sidecars = Sidecars()
        with self._reporter.progress(found.letters) as advance, contextlib.closing(sidecars):
            async with self._open_rerun(self._settings) as rerun:
                if why := self._refusal(rerun.live_handlers(), found):
                    raise Misconfigured(why)
                self._replay = Replay(rerun, sidecars, self._limits, advance)
                return await self._replay.run(letters)

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        """On the first call, let work in flight finish. On the second, or before the replay has begun, end now."""
        if self._replay is None or self._replay.report.interrupted:
            task.cancel()
        else:
            self._replay.interrupt()
            say("finishing what is under way; interrupt again to end now", err=True)
