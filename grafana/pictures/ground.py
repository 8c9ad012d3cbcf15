"""Parts shared by all drawings: boxes, colours, and the text for a value. Pure."""

from dataclasses import dataclass
from typing import Any

from grafana.pictures.scale import written

FONT, INK, MUTED, GRID = "Inter, system-ui, Helvetica, Arial, sans-serif", "#24292e", "#6e7780", "#e4e7ea"
NAMED = {"green": "#56a64b", "orange": "#e67300", "red": "#d3273e", "blue": "#3274d9", "purple": "#8f3bb8"}
PALETTE = ("#56a64b", "#3274d9", "#e67300", "#8f3bb8", "#d3273e", "#1aa3a3", "#b59a00", "#ad5a8a", "#5c6b7a", "#7a5230")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the picture."""

    x: float
    y: float
    width: float
    height: float

    def below(self, head: float) -> "Box":
        """The box without its top."""
        return Box(self.x, self.y + head, self.width, self.height - head)

    def inset(self, sides: float, top: float, bottom: float) -> "Box":
        """The box without its margins."""
        return Box(self.x + sides, self.y + top, self.width - 2 * sides, self.height - top - bottom)


def said(defaults: dict[str, Any], value: float) -> tuple[str, str]:
    """Return a panel's text and colour for a value, by its value mappings, else by its thresholds."""
    for mapping in defaults.get("mappings", ()):
        for text, result in mapping["options"].items():
            if float(text) == value:
                return result["text"], NAMED[result["color"]]
    color = "green"
    for step in defaults.get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            color = step["color"]
    return written(value, defaults.get("unit", "short")), NAMED[color]
