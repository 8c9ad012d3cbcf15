"""The parts of a system on this machine, damaged mostly by signals.

SIGKILL, SIGSTOP and orderly stops need no privileges. A full disk is imitated by a limit on the size of files
(RLIMIT_FSIZE), which is set on the running listeners and lifted later. Their appends then fail as on a full disk, with
"file too large", and so do their logs.
"""

import asyncio
import resource
from pathlib import Path

import asyncpg
import psutil

from unlost.ops.faults.drills import brokers, journals, moves
from unlost.ops.faults.drills import records as drill_records
from unlost.ops.faults.drills.clocks import turn_back
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.feeds import DescribedFeed
from unlost.ops.faults.drills.hoard import Hoard
from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.nodes import JournalNodes
from unlost.ops.faults.drills.releases import Release, migrated
from unlost.ops.faults.drills.shards import SecondShard
from unlost.ops.faults.drills.stage import FaultProxies, StageError
from unlost.ops.faults.drills.wires import ProxyWires
from unlost.ops.system import copies
from unlost.ops.system.child import Child
from unlost.ops.system.grace import grace_of
from unlost.ops.system.layout import Layout, executable
from unlost.ops.system.pooler import Pooler
from unlost.ops.system.postgres_topologies import PostgresTopology
from unlost.ops.system.redis_topologies import RedisTopology
from unlost.ops.system.system import System

ROOM_ON_FULL_DISK = 1


class LocalParts:
    """See the module's docstring, and ``Stage`` for the methods."""

    def __init__(
        self,
        system: System,
        drill: Drill,
        wires: ProxyWires | None,
        broker: brokers.Broker | None = None,
        feed: DescribedFeed | None = None,
        nodes: JournalNodes | None = None,
        before: Release | None = None,
    ) -> None:
        layout = system.layout
        self.producer_url = layout.producer_url
        self.listener_urls = layout.listener_urls
        self.headers: dict[str, str] = {}
        self.listeners = tuple(layout.listener_names)
        self.lease = float(layout.extra["lease"])
        self._system = system
        self._drill = drill
        self._wires = wires
        self._broker = broker
        self._feed = feed
        self._nodes = nodes
        self._before = before
        self._migrations = 0
        self._hoard: Hoard | None = None
        self._lock: asyncpg.Connection | None = None
        self._second: Layout | None = None
        self._shard: SecondShard | None = None

    @property
    def layout(self) -> Layout:
        """The directory, ports and settings of the system."""
        return self._system.layout

    @property
    def console_url(self) -> str | None:
        """The console's URL, if a console was requested."""
        return self._system.layout.console_url

    @property
    def console(self) -> ConsoleAt | None:
        """The console that receives the drill's marks."""
        return ConsoleAt(self.console_url) if self.console_url else None

    @property
    def environment_file(self) -> Path:
        """The settings with which ``unlost`` and ``dlq`` in another terminal find this stage."""
        return self._system.layout.environment_file

    @property
    def database_url(self) -> str:
        """The direct URL of PostgreSQL, without any fault proxy."""
        return self._system.postgres.url

    @property
    def wires(self) -> FaultProxies:
        """The fault proxies."""
        if self._wires is None:
            raise StageError("this stage was set up without fault proxies")
        return self._wires

    # -- parts ----------------------------------------------------------------------------------

    async def stop(self, part: str) -> None:
        """Stop it in order. A listener only gets the signal, since it finishes its work first."""
        match part:
            case "redis":
                self._system.valkey.stop()
            case "postgres":
                self._system.postgres.stop()
            case "producer" | "producer-1" | "producer-2" | "console":
                self._child(part).stop()
            case _:
                self._listener(part).ask_to_stop()

    async def kill(self, part: str) -> None:
        """Send SIGKILL to it and its children. Of a broker's cluster, to the node that leads the consumer, and of a
        journal's, to the node that leads the stream."""
        if part == "broker" and self._broker is not None:
            (await self._broker.leader()).kill()
            return
        if part == "journal" and self._nodes is not None:
            (await self._nodes.leader()).kill()
            return
        self._child(part).kill()

    async def freeze(self, part: str) -> None:
        """SIGSTOP."""
        self._child(part).freeze()

    async def thaw(self, part: str) -> None:
        """SIGCONT."""
        self._child(part).thaw()

    async def start(self, part: str, *, empty: bool = False) -> None:
        """Start it. On return, a server is ready, but listeners and the producer may still be starting.

        This blocks the rest of the drill. It cannot run in another thread, because a child ends with the thread that
        started it.
        """
        system = self._system
        match part:
            case "redis" if not system.valkey.child.is_running:
                if empty:
                    system.valkey.wipe()
                system.valkey.start()
            case "standby":
                self._pair.follow()
            case "pooler" if system.pooler is not None:
                system.pooler.start()
            case "postgres" if not system.postgres.child.is_running:
                system.postgres.start()
            case "redis" | "postgres":
                self._child(part).thaw()
            case "broker" if self._broker is not None:
                self._broker.start_stopped()
            case "journal" if self._nodes is not None:
                self._nodes.start_stopped()
            case _:
                await self._ended_if_asked(self._child(part))
                self._child(part).start()

    async def configure(self, part: str, **settings: str) -> None:
        """Change its environment variables, from its next start on."""
        self._child(part).configure(**settings)

    @property
    def upgraded_from(self) -> str | None:
        """See ``Stage``."""
        return f"{self._before.name}; migrations: {self._migrations}" if self._before else None

    async def upgrade(self, part: str) -> None:
        """Let it run the program that is installed beside this Python, from its next start on."""
        child = self._child(part)
        await self._ended_if_asked(child)
        child.replace_program(executable("unlost"))

    async def migrate(self) -> None:
        """See ``Stage``."""
        self._migrations = await migrated(self.database_url)

    async def revive(self) -> None:
        """Start every listener that has ended."""
        for child in self._system.listeners:
            child.start()

    def _child(self, part: str) -> Child:
        parts = {
            "redis": lambda: self._system.valkey.child,
            "redis-primary": lambda: self._topology.primary().child,
            "postgres": lambda: self._system.postgres.child,
            "standby": lambda: self._pair.standby.child,
            "pooler": lambda: self._pooler.child,
        }
        if part in parts:
            return parts[part]()
        if part == "producer":
            return self._system.producer
        if part == "console" and self._system.console is not None:
            return self._system.console
        named = [child for child in self._system.producers if child.name == part]
        return named[0] if named else self._listener(part)

    def _listener(self, part: str) -> Child:
        return self._system.listeners[self.listeners.index(part)]

    async def _ended_if_asked(self, child: Child) -> None:
        """Wait until a listener that was asked to stop has ended; leave a running one alone."""
        if child.name.startswith("listener") and child.stopping:
            code = await asyncio.to_thread(child.stop, grace_of(child.environment))
            if code:
                raise StageError(f"{child.name} was stopped and ended with {code}; the end of its log:\n{child.tail()}")

    async def fail_over_redis(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(self._topology.fail_over)
        await asyncio.to_thread(self._topology.await_replica)

    async def promote_standby(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(self._pair.promote)

    @property
    def _pair(self) -> PostgresTopology:
        if self._system.pair is None:
            raise StageError("this stage was set up with one PostgreSQL")
        return self._system.pair

    @property
    def _pooler(self) -> Pooler:
        if self._system.pooler is None:
            raise StageError("this stage was set up without a pooler")
        return self._system.pooler

    @property
    def _topology(self) -> RedisTopology:
        if self._system.redis is None:
            raise StageError("this stage was set up with one Redis")
        return self._system.redis

    # -- shortages ------------------------------------------------------------------------------

    async def take_connections(self) -> None:
        """Take all of PostgreSQL's connections."""
        self._hoard = self._hoard or Hoard(self.database_url)
        await self._hoard.take()

    async def give_connections(self) -> None:
        """Give them back."""
        if self._hoard is not None:
            await self._hoard.give()

    async def lock_events(self) -> None:
        """Lock the table of events, as somebody's migration might."""
        self._lock = self._lock or await drill_records.locked(self.database_url)

    async def unlock_events(self) -> None:
        """End the transaction that holds the lock."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.terminate()

    async def start_second_producer(self) -> None:
        """See ``Stage``."""
        await journals.start_second_producer(self._journal)

    async def back_up_journal(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(journals.back_up, self._journal)

    async def restore_journal(self) -> None:
        """See ``Stage``."""
        journals.restore(self._journal)

    async def move_journal(self, *, back: bool = False) -> None:
        """See ``Stage``."""
        places = str(self._journal), self.database_url
        source, target = reversed(places) if back else places
        await self.stop("producer")
        await moves.migrate_with_kills(source, target, self._journal.parent, is_new=not back)
        await moves.refuses_producers(source, target)
        await self.configure("producer", JOURNAL=target)
        await self.start("producer")
        await self.producer_is_ready("producer")

    @property
    def _journal(self) -> Path:
        return self._system.layout.data / "producer" / "journal.sqlite"

    async def end_connections(self) -> None:
        """See ``Stage``."""
        if self._feed is None:
            raise StageError("this stage was set up without a feed that ends connections")
        await self._feed.end_connections()

    async def producer_is_ready(self, part: str) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(self._system.await_producer, self._child(part))

    async def turn_clock_back(self) -> None:
        """Make every lease in Redis end an hour later."""
        if not await turn_back(self._system.valkey.url):
            raise StageError("no lease stood in Redis; publish faster (--rate)")

    async def back_up_postgres(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(copies.copy_data, self._system.postgres)

    async def restore_postgres(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(copies.put_copy_in_place, self._system.postgres)

    async def dump_postgres(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(copies.dump, self._system.postgres)

    async def restore_dump(self) -> None:
        """See ``Stage``."""
        await asyncio.to_thread(copies.restore_dump, self._system.postgres)

    async def fill_disk(self) -> None:
        """Let no file of a listener grow."""
        self._limit_files(ROOM_ON_FULL_DISK)

    async def free_disk(self) -> None:
        """Let them grow again."""
        self._limit_files(resource.RLIM_INFINITY)

    def _limit_files(self, size: int) -> None:
        for child in self._system.listeners:
            process = psutil.Process(child.pid)
            _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
            process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
