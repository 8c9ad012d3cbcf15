"""Draws the rates as bars into one self-contained SVG. Pure."""

from html import escape

from unlost.ops.bench.results import Findings

WIDTH, LABELS, LINE = 900, 250, 26
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#16202a}.bar{fill:#0b6bcb}.stage{fill:#8fa3b5}.loop{fill:#b3261e}"
    "@media(prefers-color-scheme:dark){text{fill:#e6ecf2}.bar{fill:#6db3ff}.loop{fill:#ff8a80}}"
)


def drawn(found: Findings) -> str:
    """Return the SVG."""
    rates = {name: one.rate for name, one in found.rates.items()}
    longest = max(rates.values())
    lines = []
    for number, (name, rate) in enumerate(rates.items()):
        top = 10 + number * LINE
        width = (WIDTH - LABELS - 110) * rate / longest
        lines.append(
            f'<text x="{LABELS - 10}" y="{top + 15}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="{_kind(name)}" x="{LABELS}" y="{top}" width="{width:.1f}" height="{LINE - 8}" rx="3"/>'
            f'<text x="{LABELS + width + 8:.1f}" y="{top + 15}">{rate:,.0f}/s</text>'
        )
    height = 20 + len(rates) * LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="Events a second">\n<style>{STYLE}</style>\n' + "\n".join(lines) + "\n</svg>\n"
    )


def _kind(name: str) -> str:
    if name.startswith("stage"):
        return "stage"
    return "loop" if "loop" in name or "by hand" in name else "bar"
