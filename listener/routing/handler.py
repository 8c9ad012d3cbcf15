"""The handler of an application: finds the route of each event, and prepares one attempt of it."""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from unlost.listener.core.attempts import AttemptPolicy, Line
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.effects import NO_EFFECTS, Effects
from unlost.listener.core.errors import Misconfigured, Permanent, Reject, Transient
from unlost.listener.core.event import Event
from unlost.listener.core.in_flight import InFlight, delivery_for
from unlost.listener.core.order_key import AfterLetter
from unlost.listener.pipeline.handlers import HandlerFailed, Prepared
from unlost.listener.routing.arguments import name_of, signature_of
from unlost.listener.routing.declared import Declared, Function
from unlost.listener.routing.resources import Resources
from unlost.listener.routing.route import Route
from unlost.listener.routing.router import Router
from unlost.listener.routing.table import RouteTable, key_mistakes_in, mistakes_in
from unlost.listener.routing.upcasting import Upcasters, mistakes_of


class AppHandler:
    """A ``Handler`` made from a router. Raises ``Misconfigured`` with all of the router's mistakes."""

    def __init__(self, name: str, router: Router) -> None:
        self.name = name
        self.line: Line | None = None
        self.routes, self.otherwise = _checked(name, router)
        self.unknown = "reject" if router.rejects_unknown else "store"
        self._policies = _policies(self.all_routes)
        self._table = RouteTable(self.routes, self.otherwise, "reject" if router.rejects_unknown else "store")
        self._upcasters = Upcasters(router.upcasts, router.version_field) if router.upcasts else None
        self._resources = Resources(_context(router.lifespans[0]) if router.lifespans else None)
        if not router.lifespans:
            self.bind({})

    def bind(self, resources: Mapping[str, Any], *, check_types: bool = True) -> None:
        """Decide what fills the parameters of all routes; raise ``Misconfigured`` if something cannot be filled."""
        found = [_mistakes(one.bind, resources, check_types=check_types) for one in self.all_routes]
        _raise(self.name, [mistake for mistakes in found for mistake in mistakes])

    def require_fast(self, *, fast: bool) -> None:
        """Raise ``Misconfigured`` if a route cannot run on asyncpg's own connections, and these are used."""
        why = "a connection of psycopg needs FAST=on: asyncpg's own connections share no transport"
        _raise(self.name, [f"{route.name}(): {why}" for route in self.all_routes if route.needs_fast and not fast])

    @property
    def all_routes(self) -> Sequence[Route]:
        """The routes as they were declared, and last the one for all other events."""
        return self.routes if self.otherwise is None else (*self.routes, self.otherwise)

    @property
    def policies(self) -> Sequence[AttemptPolicy]:
        """See ``Handler``, as for the other methods."""
        return list(self._policies.values())

    def policy_of(self, event: Event) -> AttemptPolicy:
        """See ``Handler``. If a condition raises, its route's policy applies: the attempt will raise the same."""
        delivery: Delivery | None = None
        for route in self._table.candidates(event.type).routes:
            if route.when is None:
                return self._policies[route]
            try:
                delivery = delivery or delivery_for(self._newest(event), 1, 0)
                if _holds(route, delivery):
                    return self._policies[route]
            except (Permanent, Transient):
                return self._policies[route]
        return AttemptPolicy(self.name)

    def _newest(self, event: Event) -> Event:
        """Return the event with its payload in the newest version that the application knows."""
        return event if self._upcasters is None else self._upcasters.newest(event)

    @property
    def placed(self) -> Sequence[tuple[str, Route]]:
        """All patterns with their routes, the most specific first."""
        return self._table.placed

    async def open(self) -> None:
        """Enter the lifespan, and bind its resources."""
        resources = await self._resources.open()
        try:
            self.bind(resources)
        except Misconfigured:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the lifespan."""
        await self._resources.close()

    async def until_ended(self) -> str:
        """Wait for a lifespan that ends by itself."""
        await self._resources.ended.wait()
        return f"HANDLER={self.name}: {self._resources.why_ended()}"

    def looks_before(self, event_type: str | None) -> bool:
        """See ``Handler``."""
        return self._table.candidates(event_type).looks_before

    @property
    def keys(self) -> Mapping[str, str]:
        """See ``Handler``."""
        return {one: route.options.key for route in self.all_routes for one in route.patterns if route.options.key}

    def key_of_type(self, event_type: str | None) -> str:
        """See ``Handler``."""
        return self._table.candidates(event_type).key

    @property
    def after_letters(self) -> Mapping[str, AfterLetter]:
        """See ``Handler``."""
        declared = ((one, route.options.after_letter) for route in self.all_routes for one in route.patterns)
        return {one: policy for one, policy in declared if policy}

    def after_letter_of_type(self, event_type: str | None) -> AfterLetter | None:
        """See ``Handler``."""
        return self._table.candidates(event_type).after_letter

    def runs(self, event_type: str | None) -> bool:
        """See ``Handler``."""
        return self._table.candidates(event_type).runs

    def prepare(self, flight: InFlight, number: int) -> Prepared:
        """See ``Handler``. The payload is not decoded here: an existing row must be found first."""
        routes = self._table.candidates(flight.event.type).routes
        event = self._newest(flight.event) if routes else flight.event
        delivery: Delivery | None = None
        for route in routes:
            if route.when is not None:
                delivery = delivery or delivery_for(event, number, flight.epoch)
                if not _holds(route, delivery):
                    continue
            if route.takes_delivery:
                given = _with_effects(delivery, route)
                delivery = given or delivery_for(event, number, flight.epoch, _effects_of(route))
            return route.form, route.run, (delivery, event.payload)
        if self.unknown == "reject":
            raise Reject(
                f"no route takes the type {event.type!r}" if event.type else "no route takes an event without a type"
            )
        return "store", _nothing, ()


def _effects_of(route: Route) -> Effects:
    return Effects() if route.form == "transaction" else NO_EFFECTS


def _with_effects(delivery: Delivery | None, route: Route) -> Delivery | None:
    """Return the argument that the conditions of routes got, with the effects of this one."""
    if delivery is None or route.form == "plain":
        return delivery
    return msgspec.structs.replace(delivery, effects=Effects())


async def _nothing() -> None:
    """Nothing runs for an event that is only stored."""


def _holds(route: Route, delivery: Delivery) -> bool:
    assert route.when is not None
    try:
        return bool(route.when(delivery))
    except BaseException as error:  # as in an attempt, no exception ends the process
        raise HandlerFailed(error) from error


def _policies(routes: Sequence[Route]) -> dict[Route, AttemptPolicy]:
    """Return the policy of each route, under a unique name: a function may be declared more than once."""
    names = Counter(route.name for route in routes)
    return {
        route: AttemptPolicy(
            route.name if names[route.name] == 1 else f"{route.name} ({', '.join(route.patterns)}) #{number}",
            route.options.retry, route.options.timeout, route.options.concurrency, route.line,
        )
        for number, route in enumerate(routes, 1)
    }  # fmt: skip


def _checked(name: str, router: Router) -> tuple[tuple[Route, ...], Route | None]:
    """Return the routes, and the one for all other events; raise ``Misconfigured`` with every mistake."""
    declared = [*router.routes, *router.others]
    mistakes = [why for one in declared for why in _when_mistakes(one)]
    mistakes += _counted(router)
    mistakes += mistakes_of(router.upcasts, router.version_field)
    mistakes += key_mistakes_in(router.routes, router.others, lambda one: name_of(one.function))
    mistakes += mistakes_in(router.routes, [name_of(one.function) for one in router.routes])
    middlewares = [_context(one) for one in router.middlewares]
    routes: list[Route] = []
    for one in declared:
        try:
            routes.append(Route(one, signature_of(one.function), middlewares))
        except Misconfigured as error:
            mistakes += error.mistakes
    _raise(name, mistakes)
    others = routes[len(router.routes) :]
    return tuple(routes[: len(router.routes)]), others[0] if others else None


def _counted(router: Router) -> list[str]:
    said = []
    if not router.routes and not router.others:
        said.append("the application has no route: declare one with @app.on or @app.otherwise")
    if len(router.others) > 1:
        said.append("@app.otherwise occurs twice")
    if router.others and router.rejects_unknown:
        said.append("@app.otherwise and reject_unknown() exclude each other")
    if len(router.lifespans) > 1:
        said.append("@app.lifespan occurs twice")
    return said


def _when_mistakes(one: Declared) -> list[str]:
    if one.when is not None and inspect.iscoroutinefunction(one.when):
        return [f"{name_of(one.function)}(): when= is a plain function, not an `async def`"]
    return []


def _mistakes(act: Callable[..., None], *arguments: Any, **named: Any) -> Sequence[str]:
    try:
        act(*arguments, **named)
    except Misconfigured as error:
        return error.mistakes
    return ()


def _raise(name: str, mistakes: Sequence[str]) -> None:
    if mistakes:
        raise Misconfigured(*[f"HANDLER={name}: {one}" for one in mistakes])


def _context(function: Function) -> Callable[..., Any]:
    """Make a context manager of an async generator function. Any other function returns one itself."""
    return asynccontextmanager(function) if inspect.isasyncgenfunction(function) else function
