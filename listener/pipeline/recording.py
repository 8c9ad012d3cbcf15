"""Recording: work without a handler. A claimed event is stored at once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from types import MappingProxyType

from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.storing import Storing
from unlost.listener.pipeline.work import WaitingEvent


class Recording:
    """Stores claimed events without a handler."""

    handled = False
    in_runs = True
    aside = 0
    seconds = 0.0
    pausing: Mapping[str, int] = MappingProxyType({})
    paused: Mapping[str, str] = MappingProxyType({})

    def __init__(self, storing: Storing) -> None:
        self._storing = storing
        self.start_all: Callable[[Sequence[InFlight]], None] = storing.put_all
        self.start_suspects = self.start_all

    def must_look_before(self, flight: InFlight) -> bool:  # noqa: ARG002
        """Return False: the insert decides."""
        return False

    def may_be_claimed_ahead(self, flight: InFlight) -> bool:  # noqa: ARG002
        """Return True: the insert finds out all that may have changed meanwhile."""
        return True

    def hold(self, routes: Mapping[str, str]) -> None:
        """Hold nothing: there are no routes."""

    def next_retries(self, most: int) -> Sequence[WaitingEvent]:  # noqa: ARG002
        """Return none: storing retries by itself."""
        return ()

    def admit(self, flights: Sequence[InFlight]) -> Sequence[InFlight]:
        """Return all: nothing keeps them waiting."""
        return flights

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Return an empty context: none of the user's code runs."""
        return nullcontext()

    async def idle_of_suspects(self) -> None:
        """Return at once: none of the user's code runs."""

    def waiting_longer_than(self, seconds: float) -> set[str]:  # noqa: ARG002
        """Return none: nothing waits here."""
        return set()

    def withdraw(self, flight: InFlight) -> None:
        """Do nothing: nothing waits here."""

    async def run(self) -> None:
        """Insert until cancelled."""
        await self._storing.run()

    async def stop(self, *, begun: bool, seconds: float = 0.0) -> list[str]:  # noqa: ARG002
        """Stop nothing: the primary key guards inserts in progress."""
        return []

    def lose(self, flight: InFlight) -> bool:  # noqa: ARG002
        """Stop nothing: the primary key guards an insert in progress."""
        return False
