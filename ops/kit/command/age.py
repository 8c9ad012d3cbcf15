"""Ages and intervals as people type them: ``30d``, ``12h``, ``90m``, ``45s``."""

import re

from unlost.ops.kit.command.settings import UsageProblem

UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def seconds_of(text: str, flag: str, such_as: str) -> float:
    """Parse an age into seconds. ``flag`` and an example stand in the message if it is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None:
        raise UsageProblem(f"{flag}: write a number with s, m, h or d behind it, such as {such_as}, not {text!r}")
    return float(match[1]) * UNITS[match[2]]
