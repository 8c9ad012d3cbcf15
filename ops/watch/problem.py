"""How a problem is described: what is wrong, what it affects, what to do, which commands. Pure, and plain data."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from unlost.ops.watch.picture import Listener, Picture

Level = Literal["good", "warn", "bad"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong. ``what`` has no full stop at its end, since a duration may follow it.

    ``key`` identifies the problem from picture to picture; ``runbook`` is a heading of the runbook.
    """

    key: str
    level: Level
    what: str
    affected: str
    todo: str
    commands: tuple[str, ...] = ()
    runbook: str = ""
    since: float | None = None


def named(listeners: Sequence[Listener]) -> str:
    """``Listener a``, or ``Listeners a and b``."""
    names = [one.name for one in listeners]
    return f"Listener {names[0]}" if len(names) == 1 else f"Listeners {', '.join(names[:-1])} and {names[-1]}"


def inside(listeners: Sequence[Listener]) -> str:
    """Like ``named``, for the middle of a sentence."""
    names = named(listeners)
    return names[0].lower() + names[1:]


def verb(word: str) -> Callable[[Sequence[Listener]], str]:
    """A verb that agrees with one or several listeners."""
    return lambda listeners: word if len(listeners) != 1 else {"do": "does", "go": "goes"}.get(word, f"{word}s")


def count(number: int, one: str, many: str) -> str:
    """``1 event waits``, ``2,000 events wait``."""
    return one if number == 1 else f"{number:,} {many}"


def up(picture: Picture) -> list[Listener]:
    """The listeners that answer."""
    return [one for one in picture.listeners if not one.error]


def waiting(picture: Picture) -> str:
    """How many events wait, if that is known."""
    behind = picture.behind
    if not behind:
        return "No accepted event waits." if behind == 0 else ""
    return count(behind, "1 accepted event waits", "accepted events wait") + ", safe in the journal."


def earliest(moments: Iterable[float | None]) -> float | None:
    """The earliest known moment."""
    return min((one for one in moments if one is not None), default=None)


def sentences(*parts: str) -> str:
    """Join the parts that are not empty."""
    return " ".join(part for part in parts if part)


def age(seconds: float) -> str:
    """A duration for people."""
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(0, seconds):.0f} s"
