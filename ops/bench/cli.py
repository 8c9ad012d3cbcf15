"""The command ``unlost bench``: measures on a private system, shows tables, compares ratios with their bars."""

import json
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import asyncpg
import click
import uvloop
from pydantic import Field
from rich.console import Console

from unlost.ops.bench import machine
from unlost.ops.bench.bed import Bed
from unlost.ops.bench.extent import Extent
from unlost.ops.bench.figures import missed_bars
from unlost.ops.bench.plot import drawn
from unlost.ops.bench.results import Findings
from unlost.ops.bench.suite import Suite
from unlost.ops.bench.tables import tables
from unlost.ops.kit.command import Settings, command
from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.system import System

QUICK_EVENTS = 10_000
PLAIN_WIDTH = 200
"""In a file or a pipe, no line of a table is broken."""
QUICK_SOAK, QUICK_SOAK_RATE = 0.02, 200


class BenchSettings(Settings):
    """The amount of measurement."""

    events: int = Field(40_000, ge=1_000, description="Events per round")
    listeners: int = Field(2, ge=1, le=2, description="Most listeners at once")
    rounds: int = Field(3, ge=1, le=99, description="Rounds; the median counts. Some figures need more rounds")


@command(
    BenchSettings,
    examples=["unlost bench --quick", "unlost bench --rivals", "unlost bench --soak 30 --json figures.json"],
    params=[
        click.Option(["--json", "json_file"], type=click.Path(path_type=Path), help="Write all figures to this file."),
        click.Option(["--plot"], type=click.Path(path_type=Path), help="Draw the rates into this SVG file."),
        click.Option(
            ["--handler"], type=click.Choice(["none", "plain", "transaction"]), multiple=True,
            help="Handlers to measure; by default all.",
        ),
        click.Option(["--keys"], is_flag=True, help="Measure order per key, and nothing else."),
        click.Option(["--rivals"], is_flag=True, help="Measure what experts write by hand, and nothing else."),
        click.Option(
            ["--soak"], type=click.FloatRange(min=0, min_open=True), metavar="MINUTES",
            help="Measure growth of memory, descriptors and p99 under an even load, and nothing else.",
        ),
        click.Option(
            ["--soak-rate"], type=click.IntRange(1, 20_000), default=3_000, show_default=True,
            help="Events a second of the soak.",
        ),
        click.Option(["--quick"], is_flag=True, help="Few and short rounds; fails only if noise cannot be the reason."),
        click.Option(["--full"], is_flag=True, help="Measure keys, fleets, sizes, replays and growth too."),
    ],
)  # fmt: skip
def bench(
    settings: BenchSettings,
    json_file: Path | None,
    plot: Path | None,
    handler: tuple[str, ...],
    *,
    keys: bool,
    rivals: bool,
    soak: float | None,
    soak_rate: int,
    quick: bool,
    full: bool,
) -> int:
    """Measure stages, pipeline, what experts write by hand, latency and handlers, side by side, on private servers."""
    extent = Extent(
        events=min(settings.events, QUICK_EVENTS) if quick else settings.events,
        rounds=1 if quick else settings.rounds,
        listeners=settings.listeners,
        handlers=handler or ("none", "plain", "transaction"),
        full=full,
        only="keys" if keys else "rivals" if rivals else "soak" if soak else "",
        quick=quick,
        soak_minutes=QUICK_SOAK if quick else soak or 0.0,
        soak_rate=QUICK_SOAK_RATE if quick else soak_rate,
    )
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    found = _measured(extent, console)
    for table in tables(found, noisy=quick):
        console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(found.as_json(), indent=2), encoding="utf-8")
    if plot is not None:
        plot.write_text(drawn(found), encoding="utf-8")
    return 1 if missed_bars(found.ratios, noisy=quick) else 0


def _measured(extent: Extent, console: Console) -> Findings:
    about: dict[str, Any] = machine.described()
    console.print("  ".join(f"{name} {value}" for name, value in about.items()) + "\n", markup=False)
    with tempfile.TemporaryDirectory(prefix="unlost-bench-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        layout = Layout(Path(directory), free_ports(extent.listeners), {"LOG_LEVEL": "warning"})
        system = System(layout, lambda _: None, threading.Event(), by_socket=True)
        try:
            system.start()
            return uvloop.run(_run(system, extent, console))
        finally:
            system.stop()


async def _run(system: System, extent: Extent, console: Console) -> Findings:
    connection = await asyncpg.connect(system.database_url)
    bed = Bed(system, connection)
    try:
        return await Suite(bed, extent, lambda line: console.print(line, markup=False)).run()
    finally:
        await bed.close()
