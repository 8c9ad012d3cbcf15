"""Queues of routes: which attempt starts next, within a route and among routes."""

from collections.abc import Sequence

from tests.support.handling import FakeHandler, Routed
from tests.support.stand_ins import flight
from unlost.listener.core.attempts import AttemptPolicy
from unlost.listener.pipeline.handlers import FunctionHandler
from unlost.listener.pipeline.policy import Policy
from unlost.listener.pipeline.route_queues import Attempt, Entry, RouteQueues


class Bed:
    """Queues by the first letter of an event's name, or one for all."""

    def __init__(self, routes: Sequence[str] = ()) -> None:
        policies = {route: AttemptPolicy(route) for route in routes}
        handler = (
            Routed(FakeHandler(), lambda event: policies[event.event_id[0]], [*policies.values()])
            if routes
            else FunctionHandler("h", "plain", FakeHandler())
        )
        self.queues = RouteQueues(handler, Policy(), lambda: 0.0, lambda: 0.0)

    def put(self, *names: str, entry: Entry = "fresh", first: bool | None = None) -> None:
        for name in names:
            one = flight(name)
            attempt = Attempt(one, self.queues.of(one.event), 1, entry)
            if first is None:
                self.queues.put(attempt)
            else:
                self.queues.put(attempt, first=first)

    def started(self, *, fresh: bool = True) -> list[str]:
        """Start all that may start, one after another."""
        names = []
        while attempt := self.queues.next(fresh=fresh):
            self.queues.take(attempt)
            names.append(attempt.flight.claim_id)
        return names


def test_events_start_in_the_order_in_which_they_came_and_what_ran_before_is_first() -> None:
    bed = Bed()
    bed.put("a", "b")
    bed.put("c", first=False)
    bed.put("again", "once more", first=True)
    bed.put("d")
    assert bed.started() == ["once more", "again", "a", "b", "c", "d"]
    assert len(bed.queues) == 0


def test_events_inside_the_gate_start_first_and_alone_while_it_is_closed() -> None:
    bed = Bed()
    bed.put("a", "b")
    bed.put("inside", entry="inside")
    bed.put("suspect", entry="suspect")
    bed.put("inside, again", entry="inside", first=True)
    assert [one.flight.claim_id for one in bed.queues.all()] == ["inside, again", "inside", "suspect", "a", "b"]
    assert bed.started(fresh=False) == ["inside, again", "inside", "suspect"]
    assert bed.started() == ["a", "b"]


def test_routes_take_turns_also_when_an_event_comes_first_in_its_own() -> None:
    bed = Bed("ab")
    bed.put("a1", "a2", "b1")
    bed.put("b2", first=True)
    bed.put("b3")
    assert bed.started() == ["a1", "b2", "a2", "b1", "b3"]
