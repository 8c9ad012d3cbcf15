"""Panels of states over time: one band for each series. Pure."""

from collections.abc import Iterator
from html import escape

from grafana.pictures.ground import Box, said
from grafana.pictures.lines import AXIS, CLOCK, Frame, grid
from grafana.pictures.numbers import WIDEST, nothing
from grafana.pictures.queried import STALE, STEPS, Board, Panel, Series

NAMES = 20.0
"""Additional room for names, beyond that of an axis."""


def states(panel: Panel, board: Board, box: Box) -> str:
    """Draw bands in the colours of the values' meanings, with words where there is room."""
    if not panel.series:
        return nothing(box)
    plot = Box(box.x + AXIS + NAMES, box.y, box.width - AXIS - NAMES, box.height - CLOCK)
    frame = Frame(plot, board.since, board.until, float(len(panel.series)))
    height = plot.height / len(panel.series)
    apart = STALE * max(1.0, (board.until - board.since) / STEPS)
    parts = [grid(frame, ())]
    for number, series in enumerate(panel.series):
        top = plot.y + number * height
        parts.append(
            f'<text x="{plot.x - 8:.1f}" y="{top + height / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(series.legend)}</text>"
        )
        for begins, ends, value in _spans(series, apart):
            text, color = said(panel.defined["fieldConfig"]["defaults"], value)
            left, width = frame.x(begins), frame.x(ends) - frame.x(begins)
            parts.append(
                f'<rect x="{left:.1f}" y="{top + height * 0.1:.1f}" width="{width:.1f}" height="{height * 0.8:.1f}" '
                f'fill="{color}"/>'
            )
            if width > 12 * WIDEST * (len(text) + 2):
                parts.append(
                    f'<text x="{left + 8:.1f}" y="{top + height / 2 + 4:.1f}" fill="#fff">{escape(text)}</text>'
                )
    return "".join(parts)


def _spans(series: Series, apart: float) -> Iterator[tuple[float, float, float]]:
    """Yield begin, end and value of each span; a span ends where no samples are known."""
    begins, value = series.points[0]
    last = begins
    for at, now in series.points[1:]:
        if now != value or at - last > apart:
            yield begins, at if at - last <= apart else last, value
            begins, value = at, now
        last = at
    yield begins, last, value
