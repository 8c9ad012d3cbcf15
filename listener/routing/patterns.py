"""Patterns of event types. Pure: which types a pattern matches, and which of two patterns is more specific.

``*`` stands for any characters, dots too: ``order.*`` matches ``order.created`` and ``order.item.added``.
"""

import re
from functools import lru_cache

LONGEST = 256
"""The largest number of characters in an event's type."""


@lru_cache(maxsize=1_024)
def _expression(pattern: str) -> re.Pattern[str]:
    # Atomic groups: a failed match must not try every way to share the text among the stars. The leftmost place of a
    # literal is never worse than a later one.
    first, *rest = (re.escape(part) for part in pattern.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + f".*{last}", re.DOTALL)


def matches(pattern: str, event_type: str) -> bool:
    """Return whether the whole type fits the pattern."""
    return _expression(pattern).fullmatch(event_type) is not None


def covers(wide: str, narrow: str) -> bool:
    """Return whether every type that ``narrow`` matches is matched by ``wide`` too."""
    # A star of the narrow pattern may be any text: only a star of the wide one can stand for it.
    return matches(wide, narrow)


def overlap(one: str, other: str) -> bool:
    """Return whether some type is matched by both."""
    reached = {(0, 0)}
    todo = [(0, 0)]
    while todo:
        for step in _steps(one, other, *todo.pop()):
            if step not in reached:
                reached.add(step)
                todo.append(step)
    return (len(one), len(other)) in reached


def _steps(one: str, other: str, i: int, j: int) -> list[tuple[int, int]]:
    """The next places in both patterns after one more character of a type, or after the end of a star."""
    a, b = one[i : i + 1], other[j : j + 1]
    steps = [(i + 1, j)] * (a == "*") + [(i, j + 1)] * (b == "*")
    if not a or not b:
        return steps
    if a == "*":
        return [*steps, (i, j + 1)]
    if b == "*":
        return [*steps, (i + 1, j)]
    return [*steps, (i + 1, j + 1)] if a == b else steps


def ambiguous(one: str, other: str) -> bool:
    """Return whether both match some type, and neither is more specific than the other."""
    return overlap(one, other) and not covers(one, other) and not covers(other, one)


def mistake_in(pattern: str) -> str:
    """Return what is wrong with a pattern, or an empty text."""
    if not pattern:
        return "an empty pattern matches nothing; events without a type go to @app.otherwise"
    if len(pattern) > LONGEST:
        return f"a type has at most {LONGEST} characters, and this pattern has {len(pattern):,}"
    return ""
