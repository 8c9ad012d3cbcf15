"""``unlost drill``: damage a running system on purpose, and report whether every event was kept."""

import asyncio
import json
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
from pydantic import Field
from rich.console import Console

from unlost.ops.faults.drills.catalogue import DRILLS
from unlost.ops.faults.drills.chaos import chaos
from unlost.ops.faults.drills.compose_stage import compose_stage
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.local_staging import local_stage
from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.render import listed, progress, summary, verdict
from unlost.ops.faults.drills.runner import Phase, broken, observe
from unlost.ops.faults.drills.stage import StageError
from unlost.ops.faults.drills.traffic import Traffic
from unlost.ops.faults.drills.verdict import DrillResult, Observed, judge
from unlost.ops.kit.access.settings import ClientSettings
from unlost.ops.kit.command import UsageProblem, WebAddress, command
from unlost.ops.system.child import ChildFailed
from unlost.ops.system.layout import NAMES

INTERRUPTED = 130
USUAL = 3_000
CHAOS = "chaos"


class DrillSettings(ClientSettings):
    """How to reach a compose project. A local stage needs none of this."""

    compose_command: str = Field("docker compose", description="With --compose: the command that controls the project")
    producer_url: str = Field("http://127.0.0.1:3005", description="With --compose: the producer")
    listener_urls: tuple[str, ...] = Field(
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001"), description="With --compose: the listeners"
    )
    console_url: WebAddress | None = Field(
        "http://127.0.0.1:3006", description="With --compose: the console, which marks drills in dashboards; none: ''"
    )


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """The options of the command."""

    rate: float
    events: int | None
    listeners: int
    seconds: float
    seed: int
    keep: bool
    patience: float
    console: bool
    hold: float
    before: str | None = None
    shards: bool = False

    def stream(self, drill: Drill) -> Traffic:
        """The stream of one drill, with new event ids."""
        usual = round(self.rate * self.seconds * 1.1 if drill.name == CHAOS else self._usual * drill.longer)
        prefix = f"drill-{drill.name}-{random.randrange(16**8):08x}-"  # noqa: S311  a name, no secret
        return Traffic(
            prefix, self.events or usual, self.rate, drill.poison, until_healed=not self.events and drill.until_healed,
            keys=drill.keys,
        )  # fmt: skip

    def paced(self, drill: Drill) -> Drill:
        """The drill, adjusted to --hold: although the stream is longer, the damage does not come later."""
        if self.events or drill.name == CHAOS:
            return drill
        return replace(drill, begins_after=drill.begins_after * USUAL / self._usual)

    @property
    def _usual(self) -> int:
        return USUAL + round(self.rate * self.hold)


def _params() -> list[click.Parameter]:
    return [
        click.Argument(["names"], nargs=-1, metavar="NAME..."),
        click.Option(["--list", "listing"], is_flag=True, help="List all drills, and exit."),
        click.Option(["--compose"], is_flag=True, help="Damage the compose project that runs in this directory."),
        click.Option(["--json", "json_file"], type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                     help="Write the result to this file: an object for one drill, a list for several."),
        click.Option(["--rate"], type=click.FloatRange(1, 5000), default=200.0, show_default=True,
                     help="Events published per second."),
        click.Option(["--events"], type=click.IntRange(10), help="Events to publish.  [default: 3000; chaos: enough]"),
        click.Option(["--listeners"], type=click.IntRange(1, len(NAMES)), default=2, show_default=True,
                     help="Number of listeners."),
        click.Option(["--seconds"], type=click.FloatRange(2), default=60.0, show_default=True,
                     help="How long chaos lasts."),
        click.Option(["--seed"], type=click.IntRange(0), help="Seed of chaos.  [default: random, shown at the start]"),
        click.Option(["--shards"], is_flag=True, help="Chaos: store events in two shards, and damage one of them."),
        click.Option(["--patience"], type=click.FloatRange(1), default=1.0, show_default=True,
                     help="Multiply the time limits by this number, on a busy machine."),
        click.Option(["--console"], is_flag=True, help="Start a console for the private system, to watch the damage."),
        click.Option(["--hold"], type=click.FloatRange(0), default=0.0, metavar="SECONDS",
                     help="Seconds that the damage lasts, and then its aftermath, so that people can watch."),
        click.Option(["--from", "before"], metavar="VERSION",
                     help="The version from which rolling-upgrade upgrades: an environment's directory, or what pip "
                          "installs, such as a wheel or unlost==0.2.0.  [default: this version]"),
        click.Option(["--keep"], is_flag=True, help="Keep data and logs of passed drills too."),
    ]  # fmt: skip


@command(
    DrillSettings,
    examples=[
        "unlost drill --list",
        "unlost drill redis-frozen",
        "unlost drill all --json drills.json",
        "unlost drill postgres-stopped --console --hold 60",
        "unlost drill chaos --seconds 60 --seed 7",
        "unlost drill redis-frozen --compose",
    ],
    params=_params(),
)
def drill(
    settings: DrillSettings,
    names: tuple[str, ...],
    listing: bool,
    compose: bool,
    json_file: Path | None,
    seed: int | None,
    **wish: float,
) -> int:
    """Damage a private system on this machine, heal it, and report whether every event was kept. NAME: a drill, or all.

    Exit codes: 0 every drill passed, 1 one failed, 2 wrong usage, 130 interrupted.
    """
    console = Console(highlight=False, soft_wrap=True)
    wished = DrillOptions(**wish, seed=random.randrange(1_000_000) if seed is None else seed)  # type: ignore[arg-type]  # noqa: S311
    if listing:
        for line in listed([*DRILLS.values(), _chaos(wished, console)]):
            click.echo(line)
        return 0
    results = []
    try:
        with _interruptible():
            for one in _chosen(names, wished, console, compose=compose):
                results.append(_carry_out(one, wished, console, settings if compose else None))  # noqa: PERF401  kept if interrupted
    except KeyboardInterrupt:
        console.print("interrupted", style="bold red")
        return INTERRUPTED
    finally:
        _write(json_file, results, several=len(names) != 1 or "all" in names)
    if len(results) > 1:
        summary(console, results)
    return 0 if all(result.passed for result in results) else 1


def _chosen(names: Sequence[str], wished: DrillOptions, console: Console, *, compose: bool) -> list[Drill]:
    known = {**DRILLS, CHAOS: _chaos(wished, console)}
    if not names:
        raise UsageProblem("name a drill, or all; `unlost drill --list` shows them")
    if strange := [name for name in names if name not in known and name != "all"]:
        raise UsageProblem(*(f"there is no drill {name!r}; `unlost drill --list` shows them" for name in strange))
    if "all" in names:
        return [one for one in known.values() if one.is_portable or not compose]
    if wished.before is not None and not any(known[name].upgrades for name in names):
        raise UsageProblem("--from is for the drill rolling-upgrade")
    if compose and wished.console:
        raise UsageProblem("the compose project has a console of its own: omit --console")
    if compose and (local := [name for name in names if not known[name].is_portable]):
        raise UsageProblem(*(f"{name} needs a private system: omit --compose" for name in local))
    return [known[name] for name in names]


def _chaos(wished: DrillOptions, console: Console) -> Drill:
    show = lambda line: console.print(f"  {line}", markup=False)  # noqa: E731
    return chaos(wished.seed, wished.seconds, NAMES[: wished.listeners], show, shards=wished.shards)


def _carry_out(one: Drill, wished: DrillOptions, console: Console, project: DrillSettings | None) -> DrillResult:
    console.print(f"[bold]{one.name}[/]  {one.story}")
    directory = Path(tempfile.mkdtemp(prefix=f"unlost-drill-{one.name}-"))
    try:
        with progress(console) as say:
            if project is None:
                seen = _on_local_stage(wished.paced(one), directory, wished, say, console)
            else:
                seen = asyncio.run(_on_compose(wished.paced(one), project, wished, say))
        result, reasons = judge(seen, one.bars.stretched(wished.patience).held(wished.hold))
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    if project is not None or (result.passed and not wished.keep):
        shutil.rmtree(directory, ignore_errors=True)
    else:
        console.print(f"  data and logs are kept in {directory}", markup=False)
    verdict(console, result, reasons)
    return result


def _on_local_stage(
    one: Drill, directory: Path, wished: DrillOptions, say: Callable[[Phase], None], console: Console
) -> Observed:
    say(Phase("starting"))
    try:
        with local_stage(
            one, directory, wished.listeners, lambda _: None, console=wished.console, before=wished.before
        ) as stage:
            if stage.console_url:
                console.print(f"  console at {stage.console_url}/", markup=False)
                console.print(f"  or: set -a; . {stage.environment_file}; set +a; unlost top", markup=False)
            return asyncio.run(observe(one, stage, wished.stream(one), say, wished.hold))
    except ChildFailed as failed:
        return broken(one, str(failed))


async def _on_compose(
    one: Drill, project: DrillSettings, wished: DrillOptions, say: Callable[[Phase], None]
) -> Observed:
    try:
        stage = await compose_stage(
            project.compose_command,
            producer_url=project.producer_url,
            listener_urls=project.listener_urls,
            console=ConsoleAt(project.console_url, project.unlost_token.reveal()) if project.console_url else None,
            headers=project.client()["headers"],
        )
    except StageError as error:
        raise UsageProblem(str(error)) from None
    return await observe(one, stage, wished.stream(one), say, wished.hold)


def _write(file: Path | None, results: list[DrillResult], *, several: bool) -> None:
    if file is None or not results:
        return
    rows = [result.as_json() for result in results]
    file.write_text(json.dumps(rows if several else rows[0], indent=2) + "\n")


@contextmanager
def _interruptible():  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Make SIGTERM end a drill as Ctrl-C does: everything that it started is stopped."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
