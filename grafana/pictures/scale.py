"""Formats numbers as Grafana does, and chooses round steps for axes. Pure."""

import math
import time
from collections.abc import Iterator

BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
MINUTE = 60.0
CLOCKS = (15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0)
SHORT = ("", " K", " Mil", " Bil")


def written(value: float, unit: str) -> str:
    """Format a value with its unit."""
    if math.isnan(value):
        return "no value"
    match unit:
        case "s":
            return _seconds(value)
        case "bytes":
            return _scaled(value, BINARY, 1024, gap=" ")
        case "percentunit":
            return f"{_digits(value * 100)}%"
        case "ops":
            return f"{_scaled(value, ('', 'K', 'M'), 1000)} ops/s"
        case _:
            return _scaled(value, SHORT, 1000)


def _seconds(value: float) -> str:
    for below, factor, name in ((0.001, 1e6, "µs"), (1, 1000, "ms"), (60, 1, "s"), (3600, 1 / 60, "mins")):
        if abs(value) < below:
            return "0 s" if value == 0 else f"{_digits(value * factor)} {name}"
    return f"{_digits(value / 3600)} hours"


def _scaled(value: float, names: tuple[str, ...], base: int, gap: str = "") -> str:
    size = 0
    while abs(value) >= base and size < len(names) - 1:
        value /= base
        size += 1
    return f"{_digits(value)}{gap}{names[size]}"


def _digits(value: float) -> str:
    """Format with three significant digits and no trailing zeros."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 4)}f}".rstrip("0").rstrip(".") if places else f"{value:.0f}"


def ticks(highest: float, count: int = 4, base: float = 10.0) -> list[float]:
    """Choose round values from 0 to a little beyond the highest; ``base`` is 60 for times, 1024 for bytes."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / count
    if base == MINUTE and rough > MINUTE / 4:
        step = next((one for one in CLOCKS if one >= rough), math.ceil(rough / CLOCKS[-1]) * CLOCKS[-1])
        return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]
    base = 10.0 if base == MINUTE else base
    size = base ** math.floor(math.log(rough, base))
    steps = (1, 2, 2.5, 5, 10) if base == 10 else (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    step = next((one * size for one in steps if one * size >= rough), base * size)
    return [number * step for number in range(math.ceil(highest / step - 1e-9) + 1)]


def moments(since: float, until: float, every: float = 60.0) -> Iterator[tuple[float, str]]:
    """Yield the full minutes of the range, with their UTC clock times."""
    at = math.ceil(since / every) * every
    while at <= until:
        yield at, time.strftime("%H:%M", time.gmtime(at))
        at += every
