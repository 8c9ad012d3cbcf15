"""Panels of values over time: lines, and heat maps of histograms. Pure."""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import pairwise

from grafana.pictures.ground import GRID, MUTED, NAMED, PALETTE, Box
from grafana.pictures.numbers import nothing
from grafana.pictures.queried import STALE, STEPS, Board, Panel, Series
from grafana.pictures.scale import MINUTE, moments, ticks, written

AXIS, CLOCK, LEGEND, LETTER = 70.0, 18.0, 18.0, 6.6
WIDE = 1000.0
"""Minimal width of a plot that shows the words of marks; narrower plots show the marks without words."""
HEAT = ("#f1f6c5", "#d2e7a1", "#9ad0a4", "#57b5ab", "#2f93ab", "#2a6ba2", "#274690", "#1d2469")


def lines(panel: Panel, board: Board, box: Box) -> str:
    """Draw lines, or stacked areas."""
    legend = list(_legend([series.legend for series in panel.series], box))
    plot = Box(box.x + AXIS, box.y, box.width - AXIS, box.height - CLOCK - _rows(legend, box) * LEGEND)
    defaults = panel.defined["fieldConfig"]["defaults"]
    unit = defaults.get("unit", "short")
    stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    shown = list(_stacked(panel.series)) if stacked else [(one.points, None) for one in panel.series]
    values = [value for points, _ in shown for _, value in points if math.isfinite(value)]
    if not values:
        return nothing(box)
    marks = ticks(max(values), base={"bytes": 1024.0, "s": MINUTE}.get(unit, 10.0))
    frame = Frame(plot, board.since, board.until, marks[-1])
    ground = _marked(board, frame) + grid(frame, [(one, written(one, unit)) for one in marks])
    drawn = [
        _line(points, under, PALETTE[number % len(PALETTE)], frame) for number, (points, under) in enumerate(shown)
    ]
    return ground + "".join(reversed(drawn)) + "".join(text for _, text in legend)


def heatmap(panel: Panel, board: Board, box: Box) -> str:
    """Draw buckets as rows of cells; a darker cell has more values."""
    plot = Box(box.x + AXIS, box.y, box.width - AXIS, box.height - CLOCK)
    buckets = sorted(panel.series, key=lambda one: float(one.legend.replace("+Inf", "inf")))
    cells = list(_cells(buckets))
    if not cells:
        return nothing(box)
    lowest, highest = min(row for row, _, _ in cells), max(row for row, _, _ in cells)
    most = max(count for _, _, count in cells)
    frame = Frame(plot, board.since, board.until, highest - lowest + 1)
    times = sorted({at for _, at, _ in cells})
    step = min((later - at for at, later in pairwise(times)), default=5.0)
    names = [(row - lowest + 1.0, _bound(buckets[row].legend)) for row in range(lowest, highest + 1)]
    parts = [grid(frame, names)]
    for row, at, count in cells:
        color = HEAT[min(len(HEAT) - 1, int(len(HEAT) * math.log1p(count) / math.log1p(most)))]
        left, right = frame.x(at - step), frame.x(at)
        top, bottom = frame.y(row - lowest + 1.0), frame.y(float(row - lowest))
        if left >= plot.x - 1:
            parts.append(
                f'<rect x="{left:.1f}" y="{top + 0.5:.1f}" width="{right - left - 0.5:.1f}" '
                f'height="{bottom - top - 1:.1f}" fill="{color}"/>'
            )
    return "".join(parts)


class Frame:
    """Maps times and values to positions in a plot."""

    def __init__(self, plot: Box, since: float, until: float, highest: float) -> None:
        self.plot, self.since, self.until, self._highest = plot, since, until, highest

    def x(self, at: float) -> float:
        """The x coordinate of a time."""
        return self.plot.x + self.plot.width * (at - self.since) / (self.until - self.since)

    def y(self, value: float) -> float:
        """The y coordinate of a value."""
        return self.plot.y + self.plot.height * (1 - value / self._highest)


def grid(frame: Frame, marks: Iterable[tuple[float, str]]) -> str:
    """Draw grid lines with their labels."""
    plot = frame.plot
    parts = []
    for value, text in marks:
        y = frame.y(value)
        parts.append(
            f'<path d="M{plot.x:.1f} {y:.1f}h{plot.width:.1f}" stroke="{GRID}"/>'
            f'<text x="{plot.x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="{MUTED}" font-size="11">{text}</text>'
        )
    for at, text in moments(frame.since, frame.until):
        parts.append(
            f'<path d="M{frame.x(at):.1f} {plot.y:.1f}v{plot.height:.1f}" stroke="{GRID}"/>'
            f'<text x="{frame.x(at):.1f}" y="{plot.y + plot.height + 14:.1f}" text-anchor="middle" fill="{MUTED}" '
            f'font-size="11">{text}</text>'
        )
    return "".join(parts)


def _marked(board: Board, frame: Frame) -> str:
    """Draw marks as Grafana does: a faint area, and a strip below the plot."""
    parts = []
    for mark in board.marks:
        begins, ends = max(mark.begins, board.since), min(mark.ends, board.until)
        if ends < begins:
            continue
        x, width, color = frame.x(begins), max(2.0, frame.x(ends) - frame.x(begins)), NAMED[mark.color]
        bottom = frame.plot.y + frame.plot.height
        parts.append(
            f'<rect x="{x:.1f}" y="{frame.plot.y:.1f}" width="{width:.1f}" height="{frame.plot.height:.1f}" '
            f'fill="{color}" opacity="0.12"><title>{escape(mark.words)}</title></rect>'
            f'<rect x="{x:.1f}" y="{bottom:.1f}" width="{width:.1f}" height="4" fill="{color}"/>'
        )
        if frame.plot.width > WIDE and mark.ends > mark.begins:
            lower = {"blue": 12, "red": 26}.get(mark.color, 40)
            parts.append(
                f'<text x="{x + 4:.1f}" y="{frame.plot.y + lower:.1f}" font-size="11" fill="{color}">'
                f"{escape(mark.words)}</text>"
            )
    return "".join(parts)


def _line(
    points: Sequence[tuple[float, float]], under: Sequence[tuple[float, float]] | None, color: str, frame: Frame
) -> str:
    if under is not None:
        outline = [*points, *reversed(under)]
        path = "L".join(f"{frame.x(at):.1f} {frame.y(value):.1f}" for at, value in outline)
        return f'<path d="M{path}Z" fill="{color}" opacity="0.75"/>'
    parts = []
    for piece in _pieces(points, STALE * max(1.0, (frame.until - frame.since) / STEPS)):
        path = "L".join(f"{frame.x(at):.1f} {frame.y(value):.1f}" for at, value in piece)
        parts.append(f'<path d="M{path}h0.1" fill="none" stroke="{color}" stroke-width="2" stroke-linecap="round"/>')
    return "".join(parts)


def _pieces(points: Iterable[tuple[float, float]], apart: float) -> Iterator[list[tuple[float, float]]]:
    piece: list[tuple[float, float]] = []
    for at, value in points:
        if not math.isfinite(value):
            continue
        if piece and at - piece[-1][0] > apart:
            yield piece
            piece = []
        piece.append((at, value))
    if piece:
        yield piece


Pair = tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]]


def _stacked(series: Sequence[Series]) -> Iterator[Pair]:
    times = sorted({at for one in series for at, _ in one.points})
    below = dict.fromkeys(times, 0.0)
    for one in series:
        values = dict(one.points)
        above = {at: below[at] + values.get(at, 0.0) for at in times}
        yield list(above.items()), list(below.items())
        below = above


def _cells(buckets: Sequence[Series]) -> Iterator[tuple[int, float, float]]:
    """Yield row, time and count of each non-empty bucket. Prometheus's buckets are cumulative, so differences count."""
    before: dict[float, float] = {}
    for row, bucket in enumerate(buckets):
        now = dict(bucket.points)
        for at, count in now.items():
            if (own := count - before.get(at, 0.0)) > 1e-6:
                yield row, at, own
        before = now


def _bound(legend: str) -> str:
    return "more" if legend == "+Inf" else written(float(legend), "s")


def _rows(legend: Sequence[tuple[float, str]], box: Box) -> int:
    return 1 + round((max((y for y, _ in legend), default=box.y) - min((y for y, _ in legend), default=box.y)) / LEGEND)


def _legend(names: Sequence[str], box: Box) -> Iterator[tuple[float, str]]:
    """Yield the names below the plot in rows, the last row at the bottom."""
    rows: list[list[tuple[float, int]]] = [[]]
    x = box.x
    for number, name in enumerate(names):
        width = 26 + len(name) * LETTER
        if rows[-1] and x + width > box.x + box.width:
            rows.append([])
            x = box.x
        rows[-1].append((x, number))
        x += width
    for number, row in enumerate(rows):
        y = box.y + box.height - (len(rows) - 1 - number) * LEGEND
        for x, index in row:
            yield (
                y,
                (
                    f'<path d="M{x:.1f} {y - 4:.1f}h12" stroke="{PALETTE[index % len(PALETTE)]}" stroke-width="3"/>'
                    f'<text x="{x + 17:.1f}" y="{y:.1f}" font-size="11">{escape(names[index])}</text>'
                ),
            )
