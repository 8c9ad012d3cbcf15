"""The command ``unlost source``: the shipped feeds, their profiles, and what a feed's messages become."""

import asyncio
import contextlib
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import click
from pydantic import Field

from unlost.listener.app.feeds import CLASSES, class_of, feed_of, names
from unlost.listener.core.errors import Misconfigured
from unlost.listener.ports.source import SourceEnded
from unlost.listener.source.backfilling import closed_at_the_end
from unlost.listener.source.feed.hook import Action, Feed
from unlost.listener.source.feed.loading import about, text_of
from unlost.listener.source.feed.recording import MessageFile
from unlost.listener.source.feed.source import FeedSource
from unlost.listener.source.feed.trial import MessageResult, Trial, WatchedFeed
from unlost.listener.source.websocket.connection import WebSocketOptions
from unlost.ops.kit.command import Settings, UsageProblem, command, main_group, say
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.mask import masked

AGAIN_SECONDS = 1.0
FETCH_SECONDS = 60.0
SHOWN = 160
"""How many characters of a message's details are shown."""


class SourceSettings(Settings):
    """Nothing is set."""


class TrySettings(Settings):
    """How a feed is tried."""

    seconds: float = Field(20.0, gt=0, le=3600, description="Seconds to read")
    show: int = Field(500, ge=0, le=1_000_000, description="Most lines to print for messages; all are counted")
    max_event_bytes: int = Field(1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest event, in bytes")


_record = click.Option(
    ["--record"], type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Write all messages to this file, for tests: TestFeed.read_recording reads it.",
)  # fmt: skip
_name = click.Argument(["name"], metavar="SOURCE")


@command(SourceSettings, name="list", examples=["unlost source list"])
def list_command(_: SourceSettings) -> int:
    """List the feeds that are shipped."""
    longest = max(map(len, names()))
    for name in names():
        say(f"{name.ljust(longest)}  {_about(name)}")
    return 0


@command(
    SourceSettings,
    name="show",
    examples=["unlost source show kraken", "unlost source show kraken > mine.toml", "unlost source show twitch"],
    params=[_name],
)
def show(_: SourceSettings, name: str) -> int:
    """Print a profile or a Python class as it is written, to read or to start from.

    Values from outside are not filled in. A class's first comment says where its file is.
    """
    try:
        found = class_of(name)
        say((text_of(name) if found is None else _code_of(name, found)).rstrip())
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    return 0


@command(
    TrySettings,
    name="try",
    examples=[
        "unlost source try kraken --seconds 20",
        "unlost source try feed.toml",
        "unlost source try shop.feeds:Orders",
        "unlost source try kraken --record kraken.jsonl",
        "unlost source try kraken --show 20",
    ],
    params=[_name, _record],
)
def try_command(settings: TrySettings, name: str, record: Path | None) -> int:
    """Connect, and print what each message becomes. Nothing is stored, and nothing is acknowledged.

    Each event, answer and control message is a line, up to --show lines. How many more there were is said at the end.
    A line "ack" is an acknowledgement that a listener would send. A class of yours marks its own: Send(…,
    acknowledges=True).

    If the profile has [backfill], its first call is made too, for the last event or for the time of the trial.
    Exit code 1 if no event came, if one of them would be a dead letter, or if that call failed.
    """
    try:
        _, feed = feed_of(name, os.environ, max_bytes=settings.max_event_bytes)
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    trial = Trial(feed, max_bytes=settings.max_event_bytes)
    shown = _Shown(settings.show)
    with _recorded(record) as add:
        asyncio.run(_read(feed, trial, shown, add, settings))
    shown.end()
    say()
    say(f"{counted(trial.messages, 'message')} in {settings.seconds:g} s: {_counted(trial.kinds)}")
    if trial.types:
        say(f"types: {_counted(trial.types)}")
    warnings = trial.warnings()
    for warning in warnings:
        say(f"warning: {warning}")
    fetches = feed.fetching is None or asyncio.run(_fetch(feed, trial, settings.seconds))
    return 1 if not trial.kinds["event"] or trial.kinds["invalid"] or not fetches else 0


source = main_group(
    "source",
    [list_command, show, try_command],
    help="Look at feeds: which are shipped, what their profiles say, what a feed's messages become.",
    examples=["unlost source list", "unlost source show kraken", "unlost source try feed.toml --seconds 20"],
)


class _Shown:
    """Prints what each message became, a line for each event, answer and control message, up to a number of lines."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines = 0

    def __call__(self, one: MessageResult) -> None:
        self._lines += 1
        if self._lines <= self._most:
            words = [one.what.ljust(8), one.event_id or "", one.type or "", masked(one.detail[:SHOWN])]
            say("  ".join(word for word in words if word))
        elif self._lines == self._most + 1 and self._most:
            say(f"…         what follows is counted, and not shown (--show {self._most})")

    def end(self) -> None:
        """Say how much was not shown."""
        if (hidden := self._lines - self._most) > 0:
            say(f"not shown: {counted(hidden, 'more line')} (--show {self._most})")


@contextlib.contextmanager
def _recorded(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Return what keeps a message, if it is wanted."""
    if path is None:
        yield lambda _: None
        return
    try:
        recording = MessageFile(path)
    except OSError as error:
        raise UsageProblem(f"--record: {path} cannot be written: {error}") from None
    try:
        yield recording.add
    finally:
        recording.close()
    if recording.left_out:
        say(f"warning: {path} is full: {counted(recording.left_out, 'message is', 'messages are')} not in it")


async def _read(
    feed: Feed,
    trial: Trial,
    shown: Callable[[MessageResult], None],
    record: Callable[[bytes], None],
    settings: TrySettings,
) -> None:
    """Read until the time is over, through as many connections as it takes."""

    def seen(message: bytes, actions: Sequence[Action]) -> None:
        record(message)
        for one in trial.took(message, actions):
            shown(one)

    options = WebSocketOptions(max_frame=settings.max_event_bytes)
    reading = FeedSource("trial", WatchedFeed(feed, seen), declare=lambda *_, **__: None, websocket=options)
    until = time.monotonic() + settings.seconds
    trial.connected = False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.seconds):
            while time.monotonic() < until:
                try:
                    await _read_once(reading)
                except SourceEnded as error:
                    say(f"ended     {masked(error.loss.why)}")
                    trial.connected = trial.connected or error.loss.code is not None
                await asyncio.sleep(AGAIN_SECONDS)
    trial.connected = trial.connected or reading.counts.connections > 0


async def _read_once(source: FeedSource) -> None:
    async with source.open(_from_the_start) as session:
        say("connected")
        beside = asyncio.create_task(session.run(lambda: False))
        try:
            while True:
                await session.take(1000, 1_000_000)
        finally:
            beside.cancel()


async def _fetch(feed: Feed, trial: Trial, seconds: float) -> bool:
    """Make the first call that a gap would need, and print what it brought."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            async with closed_at_the_end(feed.fetch(trial.gap(time.time(), seconds))) as pages:
                async for page in pages:
                    say(f"backfill  {trial.fetched(page)}")
                    return True
    except TimeoutError:
        say(f"warning: backfill: nothing came in {FETCH_SECONDS:g} s")
    except Exception as error:  # noqa: BLE001 - the feed may be a user's own code
        say(f"warning: backfill: {masked(str(error))}")
    else:
        say("warning: backfill: nothing was called")
    return False


async def _from_the_start() -> None:
    return None


def _code_of(name: str, found: type[Feed]) -> str:
    """Return the module of a class: its documentation names the settings, and ``opening`` says where it connects."""
    try:
        where, code = inspect.getfile(found), inspect.getsource(_module_of(found))
    except (OSError, TypeError) as error:
        raise Misconfigured(f"{name}: the text of the class cannot be read: {error}") from None
    return f"# {name} is the class {found.__name__} in {where}\n{code}"


def _module_of(found: type[Feed]) -> ModuleType:
    module = inspect.getmodule(found)
    assert module is not None, "an imported class has one"
    return module


def _about(name: str) -> str:
    if name in CLASSES:
        return (inspect.getdoc(_module_of(CLASSES[name])) or "").partition(".")[0]
    return about(text_of(name))


def _counted(counts: Mapping[str, int]) -> str:
    return (
        ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda one: -one[1])) or "nothing"
    )
