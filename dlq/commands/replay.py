"""The command ``replay``: plan, lock, run, report. After an interrupt, running work finishes; a second one ends it."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import Field

from unlost.dlq.commands.options import files_argument, filter_options, json_option, selection_of
from unlost.dlq.commands.render import warn_of
from unlost.dlq.commands.reporter import JsonLinesReporter, JsonReporter, Reporter, TextReporter
from unlost.dlq.commands.shadow import shadow as run_shadow_replay
from unlost.dlq.commands.store import ended, opened
from unlost.dlq.commands.trail import about, noted
from unlost.dlq.record.query import Selection
from unlost.dlq.record.trail import Act, whoami
from unlost.dlq.replay.handler_check import Declared, refusal, wrong_group
from unlost.dlq.replay.outcome import Rerun
from unlost.dlq.replay.plan import RESOLVED, ReplayLimits, ReplayReport
from unlost.dlq.replay.replaying import NOT_DECODED, Replay
from unlost.dlq.replay.shadow import ShadowRun
from unlost.dlq.store.files import about_us
from unlost.dlq.store.port import Plan, TakenLetters
from unlost.listener.app.connection_settings import CURSOR_BYTES, ConnectionSettings
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted

OpenRerun = Callable[["ReplaySettings"], Rerun]
OpenShadow = Callable[["ReplaySettings"], ShadowRun]


class ReplaySettings(ConnectionSettings):
    """Where the letters are, and how to reach the servers that a listener uses."""

    letters: tuple[Path, ...] = Field((), description="Dead-letter files, directories or patterns, if no FILE is given")
    dead_letter_file: Path = Field(
        Path("failed_events.jsonl"), description="File of dead letters, if neither FILE nor LETTERS is given"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("warning", description="Least severe level to log")


def replay_params() -> list[click.Parameter]:
    """The flags of ``replay`` in addition to its settings."""
    count, some = click.IntRange(min=0), click.IntRange(min=1)
    return [
        files_argument(), *filter_options(), json_option(),
        click.Option(["--follow"], is_flag=True, help="Print JSON lines while it runs: plan, progress, end."),
        click.Option(["--dry-run"], is_flag=True, help="Show the plan and stop."),
        click.Option(["--shadow"], is_flag=True,
                     help="Run today's handler in transactions that are rolled back, and report what it would do."),
        click.Option(["--rate"], type=click.FloatRange(min=0), default=0.0, help="Letters per second, at most."),
        click.Option(["--limit"], type=count, default=0, help="Letters to replay, at most."),
        click.Option(["--canary"], type=count, default=0, help="Stop unless the first N are all stored (exit code 4)."),
        click.Option(["--max-failures"], type=count, default=0, help="Stop after this many failures (exit code 4)."),
        click.Option(["--max-replays"], type=some, default=3, show_default=True,
                     help="Quarantine a letter after this many failed replays."),
        click.Option(["--all", "rejected"], is_flag=True, help="Also replay letters that a handler rejected for good."),
        click.Option(["--without-handler"], is_flag=True, help="Store the events without running a handler."),
        click.Option(["--other-handler"], is_flag=True, help="Allow another handler than the group's."),
        click.Option(["--by"], default="", help="Who asked for it, for the record; by default, you."),
        click.Option(["--concurrency"], type=count, default=0, help="Most letters in work at once; 0: many."),
    ]  # fmt: skip


def replay_command(open_rerun: OpenRerun, open_shadow: OpenShadow) -> click.Command:
    """Make the command; ``open_rerun`` opens the pipeline through which letters run, ``open_shadow`` a shadow of it."""

    @command(
        ReplaySettings,
        examples=(
            "dlq replay failed_events.jsonl --dry-run",
            "dlq replay failed_events.jsonl --shadow --limit 100",
            "dlq replay a.jsonl --canary 5 --rate 50 --max-failures 20",
            "dlq replay a.jsonl --reason exhausted --since 2h",
        ),
        params=replay_params(),
    )
    def replay(
        settings: ReplaySettings, *, files: tuple[Path, ...], as_json: bool, follow: bool, dry_run: bool, shadow: bool,
        without_handler: bool, other_handler: bool, by: str, **values: Any,
    ) -> int:  # fmt: skip
        """Run the letters of FILES again, under their own ids, as a listener would.

        An event that is already stored resolves its letter. A failure is recorded, and no second letter is written.
        It is safe to interrupt or repeat a replay, and to run it while listeners work. HANDLER must be the group's,
        or the replay is refused.

        Exit codes: 0 all resolved, 1 some failed or the servers went away, 2 usage or file, 3 another replay has
        the file or some of the letters, 4 stopped by a threshold, 130 interrupted.
        """
        _refuse_both("--shadow and --dry-run are two ways to look first", shadow, dry_run)
        _refuse_both("--without-handler and --other-handler contradict each other", without_handler, other_handler)
        if without_handler:
            settings = settings.model_copy(update={"handler": "", "handler_version": ""})
        limits = ReplayLimits(
            **{name: values.pop(name) for name in ("rate", "limit", "canary", "max_failures", "max_replays")},
            concurrency=values.pop("concurrency"), max_event_bytes=settings.max_event_bytes + CURSOR_BYTES,
        )  # fmt: skip
        if shadow:
            chosen, redactor = selection_of(values), settings.redactor()
            run = partial(
                run_shadow_replay, settings, files, chosen, limits.limit, redactor, lambda: open_shadow(settings),
                as_json=as_json, follow=follow,
            )  # fmt: skip
            return ended(run)
        reporter = JsonLinesReporter() if follow else JsonReporter() if as_json else TextReporter()
        job = Job(
            settings, files, selection_of(values), limits, reporter, open_rerun,
            insists=without_handler or other_handler, by=by or whoami(),
        )  # fmt: skip
        return ended(job.show_plan if dry_run else job.run)

    return replay


def _refuse_both(why: str, *flags: bool) -> None:
    if all(flags):
        raise UsageProblem(f"{why}; give one of them")


class Job:
    """One run of the command."""

    def __init__(
        self, settings: ReplaySettings, files: Sequence[Path], selection: Selection, limits: ReplayLimits,
        reporter: Reporter, open_rerun: OpenRerun, *, insists: bool = False, by: str = "",
    ) -> None:  # fmt: skip
        self._settings = settings
        self._files = files
        self._selection = selection
        self._limits = limits
        self._reporter = reporter
        self._open_rerun = open_rerun
        self._insists = insists
        self._by = by
        self._where = ""
        self._away = False
        """Whether the replay ended because the servers went away, and PostgreSQL does not answer even now."""
        self._replay: Replay | None = None
        self._found = Plan()

    def show_plan(self) -> int:
        """Show what would be done."""
        return asyncio.run(self._show_plan())

    async def _show_plan(self) -> int:
        async with opened(self._settings, self._files) as store:
            found = await store.plan(self._selection, self._limits.limit)
        warn_of(found.damages)
        if why := wrong_group(self._settings.group, found.groups) or self._refusal((), found):
            say(f"warning: {why}", err=True)
        self._reporter.planned(found)
        return RESOLVED

    def run(self) -> int:
        """Run the replay."""
        from unlost.ops.kit.command.daemon import run_through
        from unlost.ops.kit.telemetry.logs import configure_logs

        configure_logs(self._settings.log_level, self._settings.instance_id)
        try:
            found, report = run_through(self._run())
        except Misconfigured as error:
            raise UsageProblem(*error.mistakes) from None
        except asyncio.CancelledError:  # the loop has ended, so there is no task left to cancel
            found, report = self._found, self._replay.report if self._replay else ReplayReport()
            report.interrupted = True
        self._note(report)
        return self._report_end(found, report)

    def _note(self, report: ReplayReport) -> None:
        """Write who replayed what into the trail."""
        result = f"{report.resolved:,} resolved, {report.failed:,} failed"
        result += f", {report.behind:,} blocked by an earlier letter of the same key" if report.behind else ""
        why = report.error or report.stopped or ("interrupted" if report.interrupted else "")
        act = Act(self._by, "dlq replay", "replayed", about(self._selection, self._where), why, result)
        asyncio.run(noted(self._settings, self._files, act, away=self._away))

    def _report_end(self, found: Plan, report: ReplayReport) -> int:
        if self._settings.redactor().masks:  # they may quote payloads; `dlq show` has each, masked
            for why in [one for one in report.failures if not one.startswith(f"invalid: {NOT_DECODED}")]:
                del report.failures[why]
        self._reporter.ended(found, report)
        for why in (report.stopped and f"stopped: {report.stopped}", report.error and f"error: {report.error}"):
            if why:
                say(why, err=True)
        if report.elsewhere:
            say(
                f"warning: {counted(report.elsewhere, 'letter was', 'letters were')} left to another replay, which is "
                "at work now; if it was cut off from PostgreSQL, they are free after 30 s",
                err=True,
            )
        if report.interrupted:
            say("interrupted; run it again to go on", err=True)
        return report.exit_code()

    def _refusal(self, live: Sequence[Declared], found: Plan) -> str:
        return "" if self._insists else refusal(self._settings.handler_name, live, found.handlers)

    async def _run(self) -> tuple[Plan, ReplayReport]:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt, task)
        async with (
            opened(self._settings, self._files) as store,
            store.replaying(self._selection, self._limits.limit, about_us()) as taking,
        ):
            self._where = store.where
            self._found = found = await store.plan(self._selection, self._limits.limit)
            warn_of(found.damages)
            if why := wrong_group(self._settings.group, found.groups):
                raise UsageProblem(why)
            self._reporter.begins(found)
            report = await self._rerun_all(found, taking) if found.letters else ReplayReport()
            self._away = bool(report.error) and not await store.still_answers()
            return found, report

    async def _rerun_all(self, found: Plan, taking: TakenLetters) -> ReplayReport:
        with self._reporter.progress(found.letters) as advance:
            try:
                async with self._open_rerun(self._settings) as rerun:
                    if why := self._refusal(rerun.live_handlers(), found):
                        raise Misconfigured(why)
                    self._replay = Replay(rerun, taking, self._limits, advance, by=self._by)
                    return await self._replay.run()
            except (Transient, Permanent) as error:
                return self._ended_by(str(error))
            except TimeoutError:
                return self._ended_by("the replay could not become ready: Redis, PostgreSQL or a peer does not answer")

    def _ended_by(self, why: str) -> ReplayReport:
        report = self._replay.report if self._replay else ReplayReport()
        report.error = report.error or why
        return report

    def _interrupt(self, task: asyncio.Task[Any]) -> None:
        """On the first call, let work in flight finish. On the second, or before the replay has begun, end now."""
        if self._replay is None or self._replay.report.interrupted:
            task.cancel()
        else:
            self._replay.interrupt()
            say("finishing what is under way; interrupt again to end now", err=True)
