"""The routes of a handler as plain values, in the order in which they are tried: for people and programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from unlost.listener.core.attempts import Backoff
from unlost.listener.pipeline.handlers import FunctionHandler, Handler
from unlost.listener.routing.arguments import name_of
from unlost.listener.routing.declared import OTHERWISE
from unlost.listener.routing.handler import AppHandler
from unlost.listener.routing.route import Route

MOST_PAUSES = 5


class ListedRoute(msgspec.Struct, frozen=True):
    """One line of the list. ``function`` is None if nothing runs."""

    pattern: str
    function: str | None
    form: str
    when: str | None = None
    retry: str | None = None
    timeout: float | None = None
    concurrency: int | None = None


def listed(handler: Handler) -> list[ListedRoute]:
    """Return all routes of a handler, the most specific first."""
    if isinstance(handler, AppHandler):
        last = handler.otherwise
        end = ListedRoute(OTHERWISE, None, handler.unknown) if last is None else _of_route(OTHERWISE, last)
        return [*(_of_route(pattern, route) for pattern, route in handler.placed), end]
    assert isinstance(handler, FunctionHandler)
    return [ListedRoute("*", handler.name, handler.form)]


def _of_route(pattern: str, route: Route) -> ListedRoute:
    options = route.options
    return ListedRoute(
        pattern,
        route.name,
        route.form,
        None if route.when is None else _condition(route.when),
        None if options.retry is None else _said(options.retry),
        options.timeout,
        options.concurrency,
    )


def _said(retry: Backoff) -> str:
    """Describe attempts and pauses, as far as a line has room."""
    pauses = [retry.pause(number, 1.0) for number in range(1, retry.attempts)]
    shown = [f"{pause:g}" for pause in pauses]
    if len(shown) > MOST_PAUSES:
        shown = [*shown[: MOST_PAUSES - 2], "..", shown[-1]]
    after = f" after {', '.join(shown)} s{' at most' if retry.jitter else ''}" if shown else ""
    return f"{retry.attempts}{after}"


def _condition(when: Callable[..., Any]) -> str:
    """Return the name of a condition or, if it has none, its file and line."""
    name = name_of(when)
    code = getattr(when, "__code__", None)
    if "<lambda>" not in name or code is None:
        return name
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}"
