"""``unlost top``: all listeners in the terminal, live. ``--once`` and ``--json`` are for pipes."""

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator

import click
import msgspec
from rich.console import Console
from rich.layout import Layout
from rich.live import Live
from rich.text import Text

from unlost.ops.kit.command import command, say_json_text
from unlost.ops.watch.picture import Picture
from unlost.ops.watch.query import Watch
from unlost.ops.watch.settings import WatchSettings
from unlost.ops.watch.table import render
from unlost.ops.watch.verdict import Verdict

APART = 1.0
"""Seconds between the two looks from which rates are computed."""
PLAIN_WIDTH = 200
HINT = "q quits"


@command(
    WatchSettings,
    examples=["unlost top", "unlost top --once --json | jq .verdict.sentence"],
    params=[
        click.Option(["--once"], is_flag=True, help="Look for a second, print, and end: 0 if all is right, or 1."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print each picture as one line of JSON."),
        click.Option(["--every"], type=click.FloatRange(min=0.2), default=1.0, show_default=True,
                     help="Seconds between two pictures."),
    ],
)  # fmt: skip
def top(settings: WatchSettings, once: bool, as_json: bool, every: float) -> int:
    """Show all listeners live: rates, lag, retries, breakers, letters, and what to do about problems."""
    live = sys.stdout.isatty() and not once and not as_json
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        return asyncio.run(_live(settings, every) if live else _printed(settings, once, as_json, every))
    return 0


async def _printed(settings: WatchSettings, once: bool, as_json: bool, every: float) -> int:
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    async with _watching(settings) as watch:
        await watch.look()
        while True:
            await asyncio.sleep(APART if once else every)
            picture, judged = await watch.look()
            if as_json:
                say_json_text(_json(picture, judged))
            else:
                console.print(render(picture, judged))
            if once:
                return int(judged.level != "good")


async def _live(settings: WatchSettings, every: float) -> int:
    quitting = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, quitting.set)
    async with _watching(settings) as watch:
        with _keys(quitting), Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
            while not quitting.is_set():
                hint = Layout(Text(HINT, "dim"), size=1)  # a low terminal cuts what is above it, not how to leave
                screen = Layout()
                screen.split_column(Layout(render(*await watch.look())), hint)
                live.update(screen, refresh=True)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(quitting.wait(), every)
    return 0


@contextlib.asynccontextmanager
async def _watching(settings: WatchSettings) -> AsyncIterator[Watch]:
    database = settings.database("unlost top")
    watch = Watch(settings.targets(), database, settings.client())
    try:
        yield watch
    finally:
        await watch.close()
        if database is not None:
            await database.close()


@contextlib.contextmanager
def _keys(quitting: asyncio.Event) -> Iterator[None]:
    """Read single keys if stdin is a terminal, and restore the terminal afterwards."""
    if not sys.stdin.isatty():
        yield
        return
    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed() -> None:
        try:
            key = os.read(number, 64)[:1]
        except OSError:
            key = b""
        if key in (b"", b"q", b"Q", b"\x1b", b"\x04"):  # nothing: the terminal is gone, and would be readable for ever
            quitting.set()

    tty.setcbreak(number)
    loop.add_reader(number, pressed)
    try:
        yield
    finally:
        loop.remove_reader(number)
        with contextlib.suppress(termios.error):  # nothing is left of a terminal that is gone
            termios.tcsetattr(number, termios.TCSADRAIN, before)


def _json(picture: Picture, judged: Verdict) -> str:
    return msgspec.json.encode({"verdict": judged, "picture": picture, "behind": picture.behind}).decode()
