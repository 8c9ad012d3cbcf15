"""Draws a dashboard as one SVG: panels on its grid. Pure."""

from collections.abc import Callable
from html import escape
from typing import Any

from grafana.pictures import bands, lines, numbers
from grafana.pictures.ground import FONT, INK, MUTED, Box
from grafana.pictures.queried import Board, Panel

WIDTH, COLUMNS, ROW, GAP, HEAD = 1440, 24, 34, 8, 56
ORIGIN = "drawn from Prometheus's answers by python -m grafana.pictures; no screenshot of Grafana"
KINDS: dict[str, Callable[[Panel, Board, Box], str]] = {
    "stat": numbers.stat,
    "bargauge": numbers.bars,
    "timeseries": lines.lines,
    "heatmap": lines.heatmap,
    "state-timeline": bands.states,
}


def drawn(board: Board) -> str:
    """Return the picture as SVG."""
    height = HEAD + GAP + max(_bottom(panel.defined["gridPos"]) for panel in board.panels) * ROW
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(board.title)}" font-family="{FONT}" font-size="12" fill="{INK}">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#f4f5f5"/>'
        f'<text x="{2 * GAP}" y="34" font-size="20" font-weight="600">{escape(board.title)}</text>'
        f'<text x="{WIDTH - 2 * GAP}" y="34" text-anchor="end" fill="{MUTED}">{ORIGIN}</text>'
    )
    return "\n".join([head, *(_panel(panel, board) for panel in board.panels), "</svg>\n"])


def _bottom(at: dict[str, Any]) -> int:
    return int(at["y"]) + int(at["h"])


def _panel(panel: Panel, board: Board) -> str:
    at, column = panel.defined["gridPos"], (WIDTH - GAP) / COLUMNS
    box = Box(GAP + at["x"] * column, HEAD + at["y"] * ROW, at["w"] * column - GAP, at["h"] * ROW - GAP)
    inside = KINDS[panel.defined["type"]](panel, board, box.below(30).inset(10, 0, 8))
    return (
        f'<rect x="{box.x:.1f}" y="{box.y}" width="{box.width:.1f}" height="{box.height}" rx="3" fill="#fff" '
        f'stroke="#dcdcde"/><text x="{box.x + 10:.1f}" y="{box.y + 20}" font-size="13" font-weight="600">'
        f"{escape(panel.defined['title'])}</text>{inside}"
    )
