"""Work: the handler, if there is one, and the row. Attempts are bounded, and the claim is held during every delay.

Three forms, chosen once at start by the handler's signature:

    recorded     no handler; rows are inserted in batches
    plain        the handler runs first, then the row is inserted
    transaction  the row is inserted first, in a transaction that the handler shares
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from unlost.listener.core.in_flight import InFlight


class Work(Protocol):
    """Processes a claimed event until it is a row or must be buried."""

    handled: bool
    """Whether any of the user's code runs."""
    must_look_before: bool
    """Whether to ask the table first, because the insert alone does not decide."""

    def start_all(self, flights: Sequence[InFlight]) -> None:
        """Start these. Their outcomes are reported to ``Settling``."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """A context in which nothing but suspects runs."""

    def start_suspects(self, flights: Sequence[InFlight]) -> None:
        """Start these at once; only inside ``alone``."""

    async def idle_of_suspects(self) -> None:
        """Return once no suspect runs: each is settled, buried or lost."""

    async def run(self) -> None:
        """Work until cancelled."""

    async def stop(self, *, begun: bool) -> list[str]:
        """Stop running work; only what has not begun, unless ``begun``. Return the claims whose work was stopped."""

    def lose(self, flight: InFlight) -> bool:
        """Stop the work of a lost claim. Return True if it stopped here and the event may stand by again."""
