"""Recording: work without a handler. A claimed event is stored at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.storing import Storing


class Recording:
    """Stores claimed events without a handler."""

    handled = False
    must_look_before = False

    def __init__(self, storing: Storing) -> None:
        self._storing = storing
        self.start_all: Callable[[Sequence[InFlight]], None] = storing.put_all
        self.start_suspects = self.start_all

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Return an empty context: none of the user's code runs."""
        return nullcontext()

    async def idle_of_suspects(self) -> None:
        """Return at once: none of the user's code runs."""

    async def run(self) -> None:
        """Insert until cancelled."""
        await self._storing.run()

    async def stop(self, *, begun: bool) -> list[str]:  # noqa: ARG002
        """Stop nothing: the primary key guards inserts in progress."""
        return []

    def lose(self, flight: InFlight) -> bool:  # noqa: ARG002
        """Stop nothing: the primary key guards an insert in progress."""
        return False
