"""Wires between the stages that no other test pulls alone."""

import time
from typing import Any, cast

from unlost.listener.claims.manager import ClaimManager
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent
from unlost.listener.core.event import parse
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.pipeline import Pipeline
from unlost.listener.pipeline.policy import Policy


class Holding:
    """Stands in for the claim manager and its leases. Holds these claims until they are dropped."""

    def __init__(self, *event_ids: str) -> None:
        self.ids = set(event_ids)
        self.leases = self

    def share(self) -> tuple[int, int]:
        return 0, 1

    def drop(self, event_ids: list[str]) -> None:
        self.ids -= set(event_ids)


class Refusing:
    """A table that may no longer be read."""

    async def settled(self, requests: object) -> object:
        raise Permanent("42501: permission denied for table events")


async def test_at_a_stop_all_get_letters_where_the_table_may_not_be_read():
    pipeline = Pipeline(
        manager=cast("ClaimManager", Holding()), store=cast("Any", Refusing()), register=cast("Any", None),
        store_breaker=cast("Any", None), sink=cast("Any", None), who="a", handler=None, policy=Policy(),
        clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    event = parse(b'{"event_id":"e","payload":{}}', max_bytes=100)
    flight = InFlight(event, ClaimRequest(event.event_id, event.digest), None, received_at=0.0, received_clock=0.0)
    assert await pipeline._unsettled([flight]) == [flight]


async def test_what_ran_out_by_ones_own_clock_is_asked_for_again_and_not_held_on():
    manager = Holding("e", "other")
    pipeline = Pipeline(
        manager=cast("ClaimManager", manager), store=cast("Any", None), register=cast("Any", None),
        store_breaker=cast("Any", None), sink=cast("Any", None), who="a", handler=None, policy=Policy(),
        clocks=Clocks(time.time, time.monotonic), facts=lambda _: None,
    )  # fmt: skip
    event = parse(b'{"event_id":"e","payload":{}}', max_bytes=100)
    flight = InFlight(event, ClaimRequest(event.event_id, event.digest), None, received_at=0.0, received_clock=0.0)
    pipeline.standby.ran_out(flight)
    assert manager.ids == {"other"}, (
        "granted anew, it would keep out every fresh event behind a suspect that waits for it"
    )
    assert pipeline.standby.count == 1
