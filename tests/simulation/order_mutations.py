"""Deliberate mistakes about the order of keys. Ordered schedules must find each of them."""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import msgspec

from tests.simulation.effects import EffectTable
from tests.simulation.listener import Disk
from tests.simulation.ordered import OrderedHealing
from tests.simulation.postgres import PostgresMemory
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline import pipeline as pipeline_module
from unlost.listener.pipeline import settling as settling_module
from unlost.listener.pipeline.attempt_runner import AttemptRunner
from unlost.listener.pipeline.claimed_ahead import ClaimedAhead
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.pipeline.key_order import KeyOrder
from unlost.listener.pipeline.key_watch import KeyWatch
from unlost.listener.pipeline.lookup import Lookup
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.storing import Storing
from unlost.listener.ports import rows

REACHED = {
    settling_module: ("_waits_for_registration",),
    AttemptRunner: ("_storing",),
    Claiming: ("_intake", "_route_won"),
    ClaimedAhead: ("_order", "_settled_before"),
    Inlet: ("_find_keys",),
    KeyOrder: ("_behind", "_going", "_next"),
    Settling: ("_intake",),
    Storing: ("_settling",),
}
"""The private names of the product on which these mistakes depend, as in ``mutations.py``."""
Patch = tuple[Any, str, Callable[[Any], Any]]


def _nothing(*_: Any, **__: Any) -> None:
    pass


async def _looks_never(*_: Any) -> None:
    pass


def _looks_once_reading_has_begun(real: Any) -> Any:
    looked = WeakSet[KeyWatch]()

    async def look(self: KeyWatch) -> None:
        if self in looked:
            await real(self)
        looked.add(self)

    return look


def _keyless_if_going_on(real: Any) -> Any:
    def find(self: Inlet, flights: Any) -> None:
        real(self, flights)
        for flight in flights:
            if flight.after_letter == "continue":
                flight.order_key = None

    return find


async def _parks_nothing(*_: Any) -> None:
    pass


def _goes_on_after_the_handler(real: Any) -> Any:
    def end(self: AttemptRunner, flight: InFlight) -> None:
        self._storing._settling._intake.settled((flight,))
        real(self, flight)

    return end


def _goes_on_when_claimed(real: Any) -> Any:
    def route(self: Claiming, won: Any, start: Any) -> None:
        real(self, won, start)
        self._intake.settled(won)

    return route


def _keyless(real: Any) -> Any:
    async def write(self: Disk, process: Any, flights: Any) -> Any:
        keys = [flight.order_key for flight in flights]
        for flight in flights:
            flight.order_key = None
        try:
            return await real(self, process, flights)
        finally:
            for flight, key in zip(flights, keys, strict=True):
                flight.order_key = key

    return write


def _opened_when_taken(real: Any) -> Any:
    async def take(self: OrderedHealing, group: Any, most: int) -> Any:
        taken = await real(self, group, most)
        for one in taken:
            for buried in self._process.scene.postgres.memory.buried.values():
                if buried.letter_id == one.letter_id:
                    buried.order_key = None
        return taken

    return take


def _opened_when_tried(real: Any) -> Any:
    async def ended(self: OrderedHealing, group: Any, tried: Any, *, probe_failed: bool) -> Any:
        for one in tried:
            for buried in self._process.scene.postgres.memory.buried.values():
                if buried.letter_id == one.letter_id:
                    buried.order_key = None
        return await real(self, group, tried, probe_failed=probe_failed)

    return ended


def _newest_place_first(real: Any) -> Any:
    def enter(self: PostgresMemory, token: str, burial: Any) -> Any:
        self._places -= 2
        return real(self, token, burial)

    return enter


def _letters_heed_no_order(real: Any) -> Any:
    def is_blocked(self: PostgresMemory, event_id: str, key: str | None) -> bool:
        return event_id not in self.buried and bool(real(self, event_id, key))

    return is_blocked


def _any_letter(_: Any) -> Any:
    return lambda self: {one.letter_id for one in self.buried.values() if one.letter_id}


def _refused_is_stored(real: Any) -> Any:
    async def stored(self: Any, batch: Any, results: Any) -> None:
        await real(self, batch, [rows.SAME_ROW if one == rows.BLOCKED else one for one in results])

    return stored


def _forgets_the_next(real: Any) -> Any:
    def following(self: KeyOrder, key: str) -> InFlight | None:
        one = real(self, key)
        if one is not None and one.event.event_id.endswith(("3", "5")):
            del self._going[key]
            return None
        return one

    return following


def _stack(real: Any) -> Any:
    def following(self: KeyOrder, key: str) -> InFlight | None:
        if behind := self._behind.get(key):
            behind.rotate(1)
        return real(self, key)

    return following


def _starts_ahead(_: Any) -> Any:
    def hold(self: ClaimedAhead, batch: Any, won: Any) -> Any:
        return list(won)

    return hold


def _all_behind_is_settled(_: Any) -> Any:
    async def catch_up(self: ClaimedAhead, settled: Any) -> None:
        for flight in settled:
            following = self._order.next_of(flight, 9)
            await self._settled_before.end([(one, True) for one in following if not one.ahead])

    return catch_up


def _backwards(real: Any) -> Any:
    def run_of(self: KeyOrder, first: Any, most: int, is_held: Any) -> Any:
        return real(self, first, most, is_held)[::-1]

    return run_of


def _behind_is_stored(real: Any) -> Any:
    async def stored(self: Storing, batch: Any, results: Any) -> None:
        await real(self, batch, [rows.SAME_ROW if one == rows.BEHIND else one for one in results])

    return stored


def _group_first(real: Any) -> Any:
    return lambda order_by, of_source, of_type: real(order_by, "" if order_by else of_source, None)


def _keys_of_routes_unheeded(real: Any) -> Any:
    return lambda order_by, of_source, _: real(order_by, of_source, None)


def _keys_of_sources_unheeded(real: Any) -> Any:
    return lambda order_by, _, of_type: real(order_by, "", of_type)


def _policies_of_routes_unheeded(real: Any) -> Any:
    return lambda general, _: real(general, None)


def _letters_say_no_policy(real: Any) -> Any:
    async def write(self: Disk, process: Any, flights: Any) -> Any:
        return [msgspec.structs.replace(one, stops=None) for one in await real(self, process, flights)]

    return write


def _late_outcomes_count(real: Any) -> Any:
    def failed(self: EffectTable, place: Any, token: str, until: float, wait: float, counts: bool) -> None:
        found = self.rows.get(place)
        real(self, place, token, until if found is None else found.until, wait, counts)

    return failed


ORDER_MUTATIONS: dict[str, tuple[str, list[Patch]]] = {
    "order-claims-all": (
        "a listener claims all events of a key at once",
        [(KeyOrder, "admit", lambda _: lambda _self, flights: list(flights))],
    ),
    "order-after-claim": (
        "the next event goes on once the first is claimed",
        [(Claiming, "_route_won", _goes_on_when_claimed)],
    ),
    "order-after-handler": (
        "the next event goes on once the handler has ended, before the row",
        [(AttemptRunner, "end", _goes_on_after_the_handler)],
    ),
    "order-by-stack": ("of those that wait, the last goes first", [(KeyOrder, "_next", _stack)]),
    "order-forgets-the-next": ("some events that wait are forgotten", [(KeyOrder, "_next", _forgets_the_next)]),
    "order-unheeded": (
        "the insert heeds no blocked key",
        [(PostgresMemory, "is_blocked", lambda _: lambda *_args: False)],
    ),
    "order-letters-free": (
        "letters run in any order",
        [(PostgresMemory, "is_blocked", _letters_heed_no_order), (PostgresMemory, "firsts", _any_letter)],
    ),
    "order-unregistered": (
        "an event counts as settled before PostgreSQL has its letter",
        [(settling_module, "_waits_for_registration", lambda _: lambda _flight: False)],
    ),
    "order-letters-without-key": ("a letter blocks no key", [(Disk, "write", _keyless)]),
    "order-places-turned": (
        "a later letter comes before an earlier one",
        [(PostgresMemory, "_enter", _newest_place_first)],
    ),
    "order-opened-when-taken": ("a key opens when its letter is taken", [(OrderedHealing, "take", _opened_when_taken)]),
    "order-opened-when-tried": (
        "a key opens when its letter was tried",
        [(OrderedHealing, "ended", _opened_when_tried)],
    ),
    "order-never-opened": (
        "a key stays blocked although the row is there",
        [(PostgresMemory, "open", lambda _: _nothing)],
    ),
    "order-unparked": ("a handler runs before the key is looked at", [(Lookup, "park", lambda _: _parks_nothing)]),
    "order-continue-parks": (
        "letters block their keys although the group goes on",
        [(InFlight, "blocking_key", lambda _: property(lambda self: self.order_key))],
    ),
    "order-continue-at-once": (
        "events of a key that goes on run at the same time",
        [(Inlet, "_find_keys", _keyless_if_going_on)],
    ),
    "order-stop-for-ever": (
        "reading does not begin again once no key is blocked",
        [(KeyWatch, "look", lambda _: _looks_never)],
    ),
    "order-reads-before-it-looks": (
        "a new listener reads before it knows whether a letter stops reading",
        [(KeyWatch, "look", _looks_once_reading_has_begun)],
    ),
    "order-ahead-starts": ("what is claimed ahead starts at once", [(ClaimedAhead, "hold", _starts_ahead)]),
    "order-catches-up-blindly": (
        "what waits behind an event that a peer settled counts as settled too",
        [(ClaimedAhead, "catch_up", _all_behind_is_settled)],
    ),
    "order-run-backwards": ("a run is stored in the reverse order", [(KeyOrder, "run_of", _backwards)]),
    "order-run-all-stored": (
        "what stands behind a row that cannot be stored counts as stored with it",
        [(Storing, "stored", _behind_is_stored)],
    ),
    "order-by-group-first": (
        "ORDER_BY counts before what a route or a source declares",
        [(pipeline_module, "nearest_key", _group_first)],
    ),
    "order-routes-unheeded": (
        "the keys that routes declare are not heeded",
        [(pipeline_module, "nearest_key", _keys_of_routes_unheeded)],
    ),
    "order-sources-unheeded": (
        "the key that a source declares is not heeded",
        [(pipeline_module, "nearest_key", _keys_of_sources_unheeded)],
    ),
    "order-policies-unheeded": (
        "the policies that routes declare are not heeded",
        [(pipeline_module, "nearest_policy", _policies_of_routes_unheeded)],
    ),
    "order-letters-without-policy": (
        "a letter does not say that it stops reading, as its route wants",
        [(Disk, "write", _letters_say_no_policy)],
    ),
    "order-effect-given-back-late": (
        "a late outcome gives back an effect that its listener has taken anew",
        [(EffectTable, "failed", _late_outcomes_count)],
    ),
    "order-refused-is-stored": ("a refused row counts as stored", [(Storing, "stored", _refused_is_stored)]),
}
