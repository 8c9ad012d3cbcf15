"""The table of routes: which routes may take an event of a type, the most specific first."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Literal, get_args

import msgspec

from unlost.listener.core.order_key import AfterLetter
from unlost.listener.routing.declared import Declared
from unlost.listener.routing.patterns import ambiguous, covers, matches, mistake_in, overlap
from unlost.listener.routing.route import Route

BELOW = r"[\w-]+(\.[\w-]+){0,6}"
"""The form of a path in the payload."""
REMEMBERED = 1_024
"""How many types are cached. A source may send any number of types."""


class Candidates(msgspec.Struct, frozen=True):
    """The routes that an event of one type may take, in this order.

    ``runs``: whether any user code may run. ``looks_before``: whether PostgreSQL is queried first, because user code
    may run before the row is inserted. ``key``: the path of the key of its events, if one is declared;
    ``after_letter``: what the letter of one does to its key.
    """

    routes: tuple[Route, ...]
    runs: bool
    looks_before: bool
    key: str = ""
    after_letter: AfterLetter | None = None


class RouteTable:
    """Finds candidates by type. ``unknown``: what becomes of an event that none of them takes."""

    def __init__(self, routes: Iterable[Route], otherwise: Route | None, unknown: Literal["store", "reject"]) -> None:
        self.unknown = unknown
        self.placed = sorted(((pattern, route) for route in routes for pattern in route.patterns), key=_place)
        self._otherwise = otherwise
        self._known: dict[str | None, Candidates] = {}

    def candidates(self, event_type: str | None) -> Candidates:
        """Return the routes for this type."""
        found = self._known.get(event_type)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[event_type] = self._find(event_type)
        return found

    def _find(self, event_type: str | None) -> Candidates:
        routes: list[Route] = []
        if event_type is not None:
            routes = [route for pattern, route in self.placed if matches(pattern, event_type)]
        certain = next((place for place, route in enumerate(routes, 1) if route.when is None), None)
        routes = routes[:certain]
        if certain is None and self._otherwise is not None:
            routes.append(self._otherwise)
        rejects = certain is None and self._otherwise is None and self.unknown == "reject"
        plain = any(route.form == "plain" for route in routes)
        # All of them have the same: see key_mistakes_in.
        key, after_letter = (routes[0].options.key, routes[0].options.after_letter) if routes else ("", None)
        return Candidates(
            tuple(dict.fromkeys(routes)), bool(routes) or rejects, plain or rejects,
            f"payload.{key}" if key else "", after_letter,
        )  # fmt: skip


def key_mistakes_in(
    routes: Sequence[Declared], others: Sequence[Declared], name: Callable[[Declared], str]
) -> list[str]:
    """Return what is wrong with the keys of these routes and of those for all other events.

    The key of an event is read when it is received, before any condition is asked. So a route with a condition, and
    those that take an event that it passes on, need the same key, and the same policy.
    """
    said = [
        f"{name(one)}(): key={one.options.key!r} must be a path in the payload, as 'account_id' or 'account.id'"
        for one in (*routes, *others)
        if one.options.key is not None and not re.fullmatch(BELOW, one.options.key)
    ]
    policies = get_args(AfterLetter)
    said += [
        f"{name(one)}(): after_letter={one.options.after_letter!r} must be one of {', '.join(policies)}"
        for one in (*routes, *others)
        if one.options.after_letter not in (None, *policies)
    ]
    for one in routes:
        for other in (*routes, *others) if one.when is not None else ():
            meets = other in others or any(overlap(a, b) for a in one.patterns for b in other.patterns)
            differs = [
                what for what in ("key", "after_letter") if getattr(one.options, what) != getattr(other.options, what)
            ]
            if other is not one and meets and differs:
                said.append(
                    f"{name(one)}() has a condition, and {name(other)}() may take what it passes on: give both the "
                    f"same {' and '.join(f'{what}=' for what in differs)}"
                )
    return said


def _place(placed: tuple[str, Route]) -> tuple[int, int, str, bool]:
    """The more specific pattern first; of the same pattern, routes with a condition first, as they were declared.

    Among patterns that match one type and are not ambiguous, the more specific one has more characters beside its
    stars, or as many and fewer stars.
    """
    pattern, route = placed
    words = [word for word in pattern.split("*") if word]
    written = sum(map(len, words))
    return -written, len(re.sub(r"\*+", "*", pattern)) - written, pattern, route.when is None


def mistakes_in(routes: Sequence[Declared], names: Sequence[str]) -> list[str]:
    """Return what is wrong with the patterns of these routes, one sentence each. ``names`` are the functions'."""
    said = [
        f"{name}(): {why}"
        for one, name in zip(routes, names, strict=True)
        for why in map(mistake_in, one.patterns)
        if why
    ]
    said += [f"{name}(): on() names no type" for one, name in zip(routes, names, strict=True) if not one.patterns]
    placed = [(pattern, one, name) for one, name in zip(routes, names, strict=True) for pattern in one.patterns]
    for (a, one, first), (b, other, second) in combinations(placed, 2):
        if a == b and one.when is None and other.when is None:
            said.append(f"{first}() and {second}() both take {a}: give one of them a condition (when=)")
        elif a != b and (ambiguous(a, b) or (covers(a, b) and covers(b, a))):
            said.append(f"{a} of {first}() and {b} of {second}() overlap, and neither is more specific")
    return said
