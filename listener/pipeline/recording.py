"""Recording: no handler; what is claimed goes straight to its row."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.storing import Storing


class Recording:
    """No handler: a claimed event goes straight to its row."""

    handled = False
    must_look_before = False

    def __init__(self, storing: Storing) -> None:
        self._storing = storing
        self.start_all: Callable[[Sequence[InFlight]], None] = storing.put_all
        self.start_suspects = self.start_all

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Nothing of the user's runs."""
        return nullcontext()

    async def idle_of_suspects(self) -> None:
        """Nothing of the user's runs."""

    async def run(self) -> None:
        """Insert until cancelled."""
        await self._storing.run()

    async def stop(self, *, begun: bool) -> list[str]:  # noqa: ARG002
        """Inserts under way are not stopped: the primary key fences them."""
        return []

    def lose(self, flight: InFlight) -> bool:  # noqa: ARG002
        """An insert under way is not stopped: the primary key fences it."""
        return False
