"""The routes of the handlers: rates, failures, times and waiting events of each. Pure."""

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from unlost.ops.watch.figures import Reading, quantile, rate


class RouteRates(msgspec.Struct, frozen=True, kw_only=True):
    """One route of a listener's handler: attempts a second, and how long one takes now."""

    name: str
    pausing: int = 0
    """Events that wait for another attempt, or for the route."""
    succeeded: float = 0.0
    failed: float = 0.0
    retried: float = 0.0
    """Attempts that were not the first of their event."""
    typical_seconds: float | None = None
    slow_seconds: float | None = None


def route_of(name: str, pausing: int, before: Reading | None, now: Reading) -> RouteRates:
    """Describe a route of a listener by its metrics."""
    runs = "unlost_handler_runs_total"
    return RouteRates(
        name=name,
        pausing=pausing,
        succeeded=rate(before, now, runs, route=name, result="succeeded"),
        failed=rate(before, now, runs, route=name, result="failed"),
        retried=rate(before, now, "unlost_handler_retries_total", route=name),
        typical_seconds=quantile(before, now, "unlost_handler_seconds", 0.5, route=name),
        slow_seconds=quantile(before, now, "unlost_handler_seconds", 0.99, route=name),
    )


def routes_of(listeners: Iterable[Sequence[RouteRates]]) -> list[RouteRates]:
    """Return the routes of all listeners together, those in trouble first. Times are the slowest listener's."""
    found: dict[str, list[RouteRates]] = {}
    for route in chain.from_iterable(listeners):
        found.setdefault(route.name, []).append(route)
    together = [
        RouteRates(
            name=name,
            pausing=sum(one.pausing for one in some),
            succeeded=sum(one.succeeded for one in some),
            failed=sum(one.failed for one in some),
            retried=sum(one.retried for one in some),
            typical_seconds=max(one.typical_seconds or 0.0 for one in some) or None,
            slow_seconds=max(one.slow_seconds or 0.0 for one in some) or None,
        )
        for name, some in found.items()
    ]
    return sorted(together, key=lambda one: (-one.pausing, -one.failed, -one.succeeded))
