"""Panels of present values: figures and bars. Pure."""

from html import escape

from grafana.pictures.ground import GRID, MUTED, Box, said
from grafana.pictures.queried import Board, Panel
from grafana.pictures.scale import ticks

WIDEST = 0.62
"""Width of a letter as a share of its height."""


def stat(panel: Panel, board: Board, box: Box) -> str:  # noqa: ARG001  all panels have the same signature
    """Draw a tile for each series, in the colour of its meaning."""
    if not panel.series:
        return nothing(box)
    width = box.width / len(panel.series)
    several = len(panel.series) > 1
    parts = []
    for number, series in enumerate(panel.series):
        text, color = said(panel.defined["fieldConfig"]["defaults"], series.last)
        x = box.x + number * width
        size = min(40 if not several else 26, (width - 20) / (len(text) * WIDEST))
        middle = box.y + box.height / 2 + (10 if several else 0)
        parts.append(
            f'<rect x="{x + 2:.1f}" y="{box.y:.1f}" width="{width - 4:.1f}" height="{box.height:.1f}" rx="3" '
            f'fill="{color}"/>'
            f'<text x="{x + width / 2:.1f}" y="{middle + size / 3:.1f}" font-size="{size:.1f}" font-weight="600" '
            f'text-anchor="middle" fill="#fff">{escape(text)}</text>'
        )
        if several:
            parts.append(
                f'<text x="{x + width / 2:.1f}" y="{box.y + 20:.1f}" font-size="13" text-anchor="middle" fill="#fff">'
                f"{escape(series.legend)}</text>"
            )
    return "".join(parts)


def bars(panel: Panel, board: Board, box: Box) -> str:  # noqa: ARG001
    """Draw a bar for each series, with its value at the right."""
    if not panel.series:
        return nothing(box)
    highest = ticks(max(series.last for series in panel.series))[-1]
    height = min(32.0, box.height / len(panel.series))
    names, values = 110.0, 90.0
    parts = []
    for number, series in enumerate(panel.series):
        text, color = said(panel.defined["fieldConfig"]["defaults"], series.last)
        y = box.y + number * height
        room = box.width - names - values
        parts.append(
            f'<text x="{box.x + names - 8:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(series.legend)}</text>"
            f'<rect x="{box.x + names:.1f}" y="{y + 4:.1f}" width="{room:.1f}" height="{height - 8:.1f}" rx="2" '
            f'fill="{GRID}"/>'
            f'<rect x="{box.x + names:.1f}" y="{y + 4:.1f}" width="{room * series.last / highest:.1f}" '
            f'height="{height - 8:.1f}" rx="2" fill="{color}"/>'
            f'<text x="{box.x + box.width - values + 8:.1f}" y="{y + height / 2 + 4:.1f}" font-weight="600">'
            f"{escape(text)}</text>"
        )
    return "".join(parts)


def nothing(box: Box) -> str:
    """Draw "No data", as Grafana does."""
    return (
        f'<text x="{box.x + box.width / 2:.1f}" y="{box.y + box.height / 2:.1f}" text-anchor="middle" fill="{MUTED}">'
        "No data</text>"
    )
