"""The stage: a running system as a drill sees it. Two implementations: local processes, and a compose project.

Parts are named ``redis``, ``postgres``, ``producer`` and as the stage names its listeners. Every call returns when
what it says has happened; healing what is not hurt does nothing.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.measure import Row, Run


class StageTrouble(Exception):
    """The stage cannot do what was asked. The text says what, and what to do."""


class Wires(Protocol):
    """Fault proxies: one for each wire (``redis``, ``postgres``, ``source``) of each listener."""

    async def add(self, listener: str, wire: str, kind: str, **attributes: float) -> None:
        """Put a toxic on what flows towards the listener."""

    async def cut(self, listener: str, wire: str) -> None:
        """Close the wire and refuse it."""

    async def mend(self, listener: str, wire: str) -> None:
        """Take every toxic off this wire, and let it connect."""


class Stage(Protocol):
    """See the module's head."""

    @property
    def producer_url(self) -> str:
        """Where events are published."""

    @property
    def listener_urls(self) -> Sequence[str]:
        """Where each listener tells its health."""

    @property
    def listeners(self) -> Sequence[str]:
        """The listeners' names as parts."""

    @property
    def console(self) -> ConsoleAt | None:
        """The console that takes the drill's marks, if there is one."""

    @property
    def lease(self) -> float:
        """Seconds that a claim lasts."""

    @property
    def wires(self) -> Wires:
        """The fault proxies, where the drill asked for them."""

    async def stop(self, part: str) -> None:
        """End it in an orderly way."""

    async def kill(self, part: str) -> None:
        """SIGKILL."""

    async def freeze(self, part: str) -> None:
        """Alive, connected and silent."""

    async def thaw(self, part: str) -> None:
        """Let it go on."""

    async def start(self, part: str, *, empty: bool = False) -> None:
        """Start it again; ``empty``: without what it held (Redis)."""

    async def tell(self, part: str, **settings: str) -> None:
        """Have a part be told other settings from its next start on."""

    async def revive(self) -> None:
        """Start every listener that has ended."""

    async def take_connections(self) -> None:
        """Hold every connection that PostgreSQL has, those of the listeners included."""

    async def give_connections(self) -> None:
        """Give them back."""

    async def lock_events(self) -> None:
        """Lock the table of events, against reading too."""

    async def unlock_events(self) -> None:
        """Let go of the lock."""

    async def start_second_producer(self) -> None:
        """Start another producer on the same journal; it must end by itself, with exit code 2."""

    async def turn_clock_back(self) -> None:
        """Have Redis' records look as after its clock went back by an hour."""

    async def back_up_journal(self) -> None:
        """Copy the journal as documented, while it is in use."""

    async def restore_journal(self) -> None:
        """Put the copy in the journal's place, while no producer runs."""

    async def back_up_postgres(self) -> None:
        """Copy PostgreSQL's data as documented, while it is in use."""

    async def restore_postgres(self) -> None:
        """Put the copy in place, while PostgreSQL does not run."""

    async def fill_disk(self) -> None:
        """Leave no room for dead letters."""

    async def free_disk(self) -> None:
        """Make room."""

    async def prepare(self) -> None:
        """Make the table in which transactions leave their trace."""

    async def rows(self, prefix: str) -> list[Row]:
        """The rows of a drill, whose events' ids begin so."""

    async def effects(self, prefix: str) -> Counter[str]:
        """How often the handler of each event took effect, where it left a trace."""

    async def count(self, prefix: str) -> int:
        """How many rows there are now; may be asked from any thread, and may fail."""

    async def runs(self) -> list[Run]:
        """Every run of the drill's handler."""

    async def letters(self) -> list[str]:
        """Whose letters are unresolved."""

    async def replay(self) -> list[str]:
        """Replay all letters, the handler being well again; what went wrong, in sentences."""

    async def audit(self) -> list[str]:
        """Have a second, independent count close the books; what it finds wrong."""
