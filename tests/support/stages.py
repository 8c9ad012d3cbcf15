"""Stand-ins for stages of the pipeline."""

import asyncio

from unlost.listener.core.in_flight import InFlight


class Returned:
    """For ``Standby``: keeps what ran out."""

    def __init__(self) -> None:
        self.lost: asyncio.Queue[InFlight] = asyncio.Queue()

    def ran_out(self, flight: InFlight) -> None:
        """See ``Standby``."""
        self.lost.put_nowait(flight)
