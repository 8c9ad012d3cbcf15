"""Renders a picture as text for a terminal of 80 columns. Pure."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.watch.picture import Listener, Picture
from unlost.ops.watch.problem import age
from unlost.ops.watch.routes import RouteRates, routes_of
from unlost.ops.watch.verdict import Verdict, headline

COLORS = {"good": "green", "warn": "yellow", "bad": "red"}
STATES = {"ready": "green", "degraded": "yellow", "unready": "red", "away": "red"}
SHORT = {"postgres": "pg"}
MOST_PROBLEMS = 5
MOST_ROUTES = 8
NOTHING = "-"


def render(picture: Picture, judged: Verdict, hint: str = "") -> RenderableType:
    """The problems and what to do (or one sentence that all is right), the listeners, then the other parts."""
    parts: list[RenderableType] = [_text(judged.sentence, COLORS[judged.level])] if not judged.problems else []
    for problem in judged.problems[:MOST_PROBLEMS]:
        head = _text(f"{headline(problem, picture.at)}.", COLORS[problem.level])
        parts.append(Text.assemble(head, " ", _text(problem.affected), " ", _text(problem.todo, "bold")))
        parts += [_text(f"  $ {command}") for command in problem.commands]
    if len(judged.problems) > MOST_PROBLEMS:
        parts.append(Text(f"And {len(judged.problems) - MOST_PROBLEMS} more."))
    parts += [Text(""), _listeners(picture), Text("")]
    if routes := routes_of(one.routes for one in picture.listeners):
        parts += [_routes(routes), Text("")]
    parts += _rest(picture)
    if hint:
        parts += [Text(""), Text(hint, "dim")]
    return Group(*parts)


def _listeners(picture: Picture) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("LISTENER", no_wrap=True, max_width=14)
    table.add_column("STATE", no_wrap=True)
    for name in ("IN/S", "OUT/S", "RETRY/S", "LAG", "HOLDS", "WAITS", "BURIED"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("BREAKERS", no_wrap=True)
    for one in picture.listeners:
        table.add_row(_text(one.name), Text(one.state, STATES[one.state]), *_figures(one))
    return table


def _figures(one: Listener) -> Iterator[str]:
    if one.error:
        yield from [NOTHING] * 8
        return
    yield from map(_short, (one.rates.received, one.rates.stored, one.rates.retried))
    yield NOTHING if one.lag is None else _short(one.lag)
    yield from map(_short, (one.holds, one.standing_by, one.letters))
    yield printable(",".join(SHORT.get(name, name) for name in one.open_breakers) or "closed")


def _routes(routes: Sequence[RouteRates]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("ROUTE", no_wrap=True, max_width=30)
    for name in ("RUNS/S", "FAILED/S", "AGAIN/S", "P50", "P99", "WAIT"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in routes[:MOST_ROUTES]:
        figures = (one.succeeded + one.failed, one.failed, one.retried)
        times = (NOTHING if one is None else f"{one:g}s" for one in (one.typical_seconds, one.slow_seconds))
        table.add_row(_text(one.name), *map(_short, figures), *times, _short(one.pausing))
    return table


def _rest(picture: Picture) -> Iterator[Text]:
    if picture.producer:
        one = picture.producer
        figures = (
            one.error or f"{_short(one.accepted)}/s accepted, {one.clients} connected, {picture.behind or 0:,} behind"
        )
        yield _text(f"producer     {figures}")
    if picture.database:
        store = picture.database
        count = f"{'about ' if store.estimated else ''}{counted(store.rows, 'row')}"
        yield _text(f"PostgreSQL   {store.error or f'{count}, {store.milliseconds:.0f} ms'}")
    if picture.letter_files:
        waiting = sum(one.waiting for one in picture.letter_files)
        parked = sum(one.by_state.get("quarantined", 0) for one in picture.letter_files)
        oldest = [one.oldest_waiting_at for one in picture.letter_files if one.oldest_waiting_at is not None]
        since = f", the oldest for {age(picture.at - min(oldest))}" if oldest else ""
        yield Text(f"letters      {waiting:,} waiting{since}, {parked:,} in quarantine")


def _text(words: str, style: str = "") -> Text:
    """Foreign text, such as names of listeners and errors, must not control the terminal."""
    return Text(printable(words), style)


def _short(number: float) -> str:
    """A number in at most five characters."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            scaled = number / (1e3 if sign == "k" else size)
            return f"{scaled:.0f}{sign}" if scaled >= 100 else f"{scaled:.1f}{sign}"
    return f"{number:.1f}" if 0 < number < 10 and number != int(number) else f"{number:.0f}"
