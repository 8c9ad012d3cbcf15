"""The stage: a running system as drills use it. It has two implementations: local processes, and a compose project.

Parts are named ``redis``, ``postgres``, ``producer``, and by the stage's names of its listeners. Each method returns
when its effect has happened. Healing an undamaged part has no effect.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.measure import Run, StoredEvent


class StageError(Exception):
    """The stage cannot do something. The text says what, and what to do about it."""


class FaultProxies(Protocol):
    """Fault proxies: one for each wire (``redis``, ``postgres``, ``source``) of each listener."""

    async def add(self, listener: str, wire: str, kind: str, **attributes: float) -> None:
        """Add a toxic to the data that flows to the listener."""

    async def cut(self, listener: str, wire: str) -> None:
        """Cut the wire's connections and refuse new ones."""

    async def repair(self, listener: str, wire: str) -> None:
        """Remove all toxics from this wire, and accept connections."""


class Stage(Protocol):
    """See the module's docstring."""

    @property
    def producer_url(self) -> str:
        """The URL to which events are published."""

    @property
    def listener_urls(self) -> Sequence[str]:
        """Each listener's HTTP endpoint."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that producer and listeners require."""

    @property
    def listeners(self) -> Sequence[str]:
        """The listeners' names as parts."""

    @property
    def console(self) -> ConsoleAt | None:
        """The console that receives the drill's marks, if there is one."""

    @property
    def lease(self) -> float:
        """Seconds that a claim lasts."""

    @property
    def wires(self) -> FaultProxies:
        """The fault proxies, if the drill needs them."""

    @property
    def upgraded_from(self) -> str | None:
        """The version that runs at first, if another replaces it."""

    async def stop(self, part: str) -> None:
        """Stop it in order."""

    async def kill(self, part: str) -> None:
        """SIGKILL."""

    async def freeze(self, part: str) -> None:
        """Suspend it: it stays alive and connected, but silent."""

    async def thaw(self, part: str) -> None:
        """Resume it."""

    async def start(self, part: str, *, empty: bool = False) -> None:
        """Start it again; ``empty`` (for Redis): without its data."""

    async def configure(self, part: str, **settings: str) -> None:
        """Change a part's settings, from its next start on."""

    async def upgrade(self, part: str) -> None:
        """Let a part run the newer version, from its next start on."""

    async def migrate(self) -> None:
        """Bring the tables up to date with the newer version's ``unlost migrate``."""

    async def revive(self) -> None:
        """Start every listener that has ended."""

    async def fail_over_redis(self) -> None:
        """Make a primary of Redis and its replica change roles, as before a planned stop."""

    async def promote_standby(self) -> None:
        """Let PostgreSQL's standby take rows, once the primary is gone. With Patroni: wait until it has done so."""

    async def take_connections(self) -> None:
        """Take all of PostgreSQL's connections, including those of the listeners."""

    async def give_connections(self) -> None:
        """Give them back."""

    async def lock_events(self) -> None:
        """Lock the table of events, against reading too."""

    async def unlock_events(self) -> None:
        """Release the lock."""

    async def start_second_producer(self) -> None:
        """Start another producer on the same journal; it must end by itself, with exit code 2."""

    async def producer_is_ready(self, part: str) -> None:
        """Return when one of several producers is ready."""

    async def turn_clock_back(self) -> None:
        """Make Redis's records look as if its clock had gone back by an hour."""

    async def back_up_journal(self) -> None:
        """Copy the journal as documented, while it is in use."""

    async def restore_journal(self) -> None:
        """Put the copy in the journal's place, while no producer runs."""

    async def move_journal(self, *, back: bool = False) -> None:
        """Stop the producer, move its journal to PostgreSQL or back, and start the producer there. The command that
        moves it is killed in each of its steps."""

    async def back_up_postgres(self) -> None:
        """Copy PostgreSQL's data as documented, while it is in use."""

    async def restore_postgres(self) -> None:
        """Put the copy in place, while PostgreSQL does not run."""

    async def dump_postgres(self) -> None:
        """Dump the database as documented, while it is in use."""

    async def restore_dump(self) -> None:
        """Replace the database by an empty one, whoever is connected, and restore the dump into it as documented."""

    async def lose_disk(self, listener: str) -> None:
        """Kill a listener once its letters are listed, and remove everything it had on its disk."""

    async def replay_twice_at_once(self) -> None:
        """Replay all letters of the fleet's list from two places at once."""

    async def end_connections(self) -> None:
        """Let the feed end its clients' connections by its plan; return when it has."""

    async def fill_disk(self) -> None:
        """Leave no room for dead letters."""

    async def free_disk(self) -> None:
        """Make room again."""

    async def prepare(self) -> None:
        """Create the table in which handlers' transactions record their effects."""

    async def rows(self, prefix: str) -> list[StoredEvent]:
        """The rows of a drill: its events' ids have this prefix."""

    async def effects(self, prefix: str) -> Counter[str]:
        """How many effects of each event's handler were committed, if the handler records them."""

    async def count(self, prefix: str) -> int:
        """How many rows there are now. Any thread may call it, and it may fail."""

    async def runs(self) -> list[Run]:
        """Every run of the drill's handler."""

    async def letters(self) -> list[str]:
        """The ids of events with unresolved letters."""

    async def replay(self) -> list[str]:
        """Replay all letters with a healed handler; return problems as sentences."""

    async def audit(self) -> list[str]:
        """Run a second, independent count; return the problems that it finds."""
