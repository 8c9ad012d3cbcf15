"""Work: the handler, if there is one, and the row. Attempts are bounded, and every delay holds the claim.

Three forms, chosen once at start by the handler's own signature:
recorded     no handler; rows are inserted in batches
plain        the handler runs first, then the row is inserted
transaction  the row is inserted first, in a transaction that the handler shares
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from unlost.listener.core.in_flight import InFlight


class Work(Protocol):
    """What happens to an event once it is claimed, until it is a row or doomed."""

    handled: bool
    """Whether code of the user's runs."""
    must_look_before: bool
    """Whether the table must be asked before, because the insert itself does not decide."""

    def start_all(self, flights: Sequence[InFlight]) -> None:
        """Begin these; their ends are reported to ``Settling``."""

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Within it nothing runs but suspects."""

    def start_suspects(self, flights: Sequence[InFlight]) -> None:
        """Begin these at once; only within ``alone``."""

    async def idle_of_suspects(self) -> None:
        """Return when no suspect is at work: each is settled, buried, or lost."""

    async def run(self) -> None:
        """Work until cancelled."""

    async def stop(self, *, begun: bool) -> list[str]:
        """Stop what runs, or only what has not ``begun`` yet; the claims whose work ended so."""

    def lose(self, flight: InFlight) -> bool:
        """The claim is lost: stop what runs for it. True where it stopped here and may stand by again."""
