"""Work: the handler, if there is one, and the row. Attempts are bounded, and the claim is held during every delay.

Three forms, chosen by the signature of the function that handles the event:

    recorded     no function; rows are inserted in batches
    plain        the function runs first, then the row is inserted
    transaction  the row is inserted first, in a transaction that the function shares
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from unlost.listener.core.in_flight import InFlight


class WaitingEvent(msgspec.Struct, frozen=True):
    """An event between two attempts. ``attempt``: the number of the next one, which comes in ``seconds``."""

    event_id: str
    type: str | None
    route: str
    attempt: int
    seconds: float
    error: str


class Work(Protocol):
    """Processes a claimed event until it is a row or must be buried."""

    handled: bool
    """Whether any of the user's code runs."""

    def must_look_before(self, flight: InFlight) -> bool:
        """Return whether the table must be queried about a won event first, since the insert comes only later."""

    in_runs: bool
    """Whether events of one key that follow each other may start together: one statement stores them in their order."""

    def may_be_claimed_ahead(self, flight: InFlight) -> bool:
        """Return whether an event may be claimed while it waits for an earlier one of its key."""

    @property
    def seconds(self) -> float:
        """The recent average duration of the handler's attempts."""

    @property
    def aside(self) -> int:
        """How many held claims belong to events that pause between two attempts. They count against no other limit."""

    @property
    def pausing(self) -> Mapping[str, int]:
        """How many events of each route wait in memory for another attempt, or for the route, if it pauses."""

    @property
    def paused(self) -> Mapping[str, str]:
        """The routes of the handler that pause, each with the error of its attempts."""

    def hold(self, routes: Mapping[str, str]) -> None:
        """Start no attempt of these routes, each with a reason, until the next call."""

    def next_retries(self, most: int) -> Sequence[WaitingEvent]:
        """Return the events whose next attempt comes first, and when it comes."""

    def admit(self, flights: Sequence[InFlight]) -> Sequence[InFlight]:
        """Return those that may be claimed now. The others wait here, unclaimed, until their route has room."""

    def start_all(self, flights: Sequence[InFlight]) -> None:
        """Start these. Their outcomes are reported to ``Settling``."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """A context in which nothing but suspects runs."""

    def start_suspects(self, flights: Sequence[InFlight]) -> None:
        """Start these at once; only inside ``alone``."""

    async def idle_of_suspects(self) -> None:
        """Return once no suspect runs: each is settled, buried or lost."""

    def waiting_longer_than(self, seconds: float) -> set[str]:
        """Return the claims of events that wait for a route that pauses, or longer than this for another attempt."""

    def withdraw(self, flight: InFlight) -> None:
        """Take out an event that waits for a route that pauses."""

    async def run(self) -> None:
        """Work until cancelled."""

    async def stop(self, *, begun: bool, seconds: float = 0.0) -> list[str]:
        """Stop running work. Unless ``begun``, only work that has not begun, or whose pause exceeds ``seconds``.

        Returns the claims whose work was stopped.
        """

    def lose(self, flight: InFlight) -> bool:
        """Stop the work of a lost claim. Return True if it stopped here and the event may stand by again."""
