"""A stage on this machine: a private system in its own directory, damaged mostly by signals.

SIGKILL, SIGSTOP and orderly stops need no privileges. A full disk is imitated by a limit on the size of files
(RLIMIT_FSIZE), which is set on the running listeners and lifted later. Their appends then fail as on a full disk, with
"file too large", and so do their logs. In that drill, handler runs are recorded through a pipe, which has no size.
"""

import asyncio
import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil

from unlost.dlq.record.file import FileError
from unlost.ops.audit.cli import AuditSettings, audited
from unlost.ops.faults.drills import brokers, journals, second
from unlost.ops.faults.drills import records as drill_records
from unlost.ops.faults.drills.clocks import turn_back
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.feeds import DescribedFeed, described
from unlost.ops.faults.drills.hoard import Hoard
from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.measure import Run, StoredEvent
from unlost.ops.faults.drills.stage import StageError, Wires
from unlost.ops.faults.drills.wires import ProxyWires, proxied
from unlost.ops.kit.command import UsageProblem
from unlost.ops.system import copies
from unlost.ops.system.child import Child
from unlost.ops.system.grace import grace_of
from unlost.ops.system.layout import Layout, executable, free_ports, write_environment
from unlost.ops.system.pooler import Pooler
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.postgres_pair import PostgresPair
from unlost.ops.system.redis_topologies import RedisTopology, ValkeyCluster, ValkeyWithSentinels
from unlost.ops.system.system import StartStep, System

LEASE = 5.0
FEW_CONNECTIONS = ("-c", "max_connections=60")
ROOM_ON_FULL_DISK = 1
LISTED_WITHIN = 30.0
REPLAY_AGAIN = 1.0
ANY = ""
"""The prefix of all ids."""
HEALED = {"DRILL_HEALED": "1"}
TOPOLOGIES: dict[str, Callable[[Path], RedisTopology]] = {"cluster": ValkeyCluster, "sentinels": ValkeyWithSentinels}


class LocalStage:
    """See the module's docstring, and ``Stage`` for the methods."""

    def __init__(
        self,
        system: System,
        drill: Drill,
        wires: ProxyWires | None,
        broker: brokers.Broker | None = None,
        feed: DescribedFeed | None = None,
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
        self._hoard: Hoard | None = None
        self._lock: asyncpg.Connection | None = None
        self._second: Layout | None = None

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
        return (self._system.pair.present if self._system.pair else self._system.postgres).url

    @property
    def wires(self) -> Wires:
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
            case "producer":
                self._system.producer.stop()
            case _:
                self._listener(part).ask_to_stop()

    async def kill(self, part: str) -> None:
        """Send SIGKILL to it and its children. Of a broker's cluster, to the node that leads the consumer."""
        if part == "broker" and self._broker is not None:
            (await self._broker.leader()).kill()
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
            case "pooler" if system.pooler is not None:
                system.pooler.start()
            case "postgres" if not system.postgres.child.is_running:
                system.postgres.start()
            case "redis" | "postgres":
                self._child(part).thaw()
            case "broker" if self._broker is not None:
                self._broker.start_stopped()
            case _:
                await self._ended_if_asked(self._child(part))
                self._child(part).start()

    async def configure(self, part: str, **settings: str) -> None:
        """Change its environment variables, from its next start on."""
        self._child(part).configure(**settings)

    async def revive(self) -> None:
        """Start every listener that has ended."""
        for child in self._system.listeners:
            child.start()

    def _child(self, part: str) -> Child:
        parts = {
            "redis": lambda: self._system.valkey.child,
            "redis-primary": lambda: self._topology.primary().child,
            "postgres": lambda: self._system.postgres.child,
            "pooler": lambda: self._pooler.child,
        }
        if part in parts:
            return parts[part]()
        return self._system.producer if part == "producer" else self._listener(part)

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
        if self._system.pair is None:
            raise StageError("this stage was set up with one PostgreSQL")
        await asyncio.to_thread(self._system.pair.promote)

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

    @property
    def _journal(self) -> Path:
        return self._system.layout.data / "producer" / "journal.sqlite"

    async def end_connections(self) -> None:
        """See ``Stage``."""
        if self._feed is None:
            raise StageError("this stage was set up without a feed that ends connections")
        await self._feed.end_connections()

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

    # -- the end --------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Create the table in which handlers' transactions record their effects."""
        await drill_records.prepare(self.database_url)

    async def rows(self, prefix: str) -> list[StoredEvent]:
        """Return the rows of a drill."""
        return await drill_records.rows_of(self.database_url, prefix)

    async def effects(self, prefix: str) -> Counter[str]:
        """Count the committed effects of each event's handler."""
        return await drill_records.effects_of(self.database_url, prefix)

    async def count(self, prefix: str) -> int:
        """Count the rows. Raises ``StageError`` if PostgreSQL does not answer at once."""
        return await drill_records.count_of(self.database_url, prefix)

    async def runs(self) -> list[Run]:
        """Return every recorded handler run."""
        path = self._system.layout.data / "runs"
        return [Run.of(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def letters(self) -> list[str]:
        """The ids of events with unresolved letters."""
        return await drill_records.open_in_list_and(self._system.layout.letter_files, self.database_url)

    async def replay(self) -> list[str]:
        """Run ``dlq replay`` on every file, and on the fleet's list for what no file has any more.

        Repeat while a lost owner's lease on a letter's event still runs, or a listener tries the letter itself.
        """
        files = [str(file) for file in self._system.layout.letter_files if file.exists()]
        # In the order of keys, letters of one instance may wait for those of another: only the list has all of them.
        first = [None] if self._drill.keys else []
        problems = [await self._replay_until_done(file) for file in [*first, *files, None]]
        return [one for one in problems if one]

    async def _replay_until_done(self, file: str | None) -> str:
        deadline = time.monotonic() + self.lease + 20
        while True:
            code, output = await self._dlq("replay", *([file] if file else []), "--json")
            if not code:
                return ""
            if time.monotonic() > deadline:
                return f"dlq replay ended with {code}: {output[-300:]}"
            await asyncio.sleep(REPLAY_AGAIN)

    async def replay_twice_at_once(self) -> None:
        """Replay all letters of the fleet's list from two places at once: each letter is run by one of them."""
        waiting = len(await self._until_listed())
        ended = await asyncio.gather(self._dlq("replay", "--json"), self._dlq("replay", "--json"))
        reports = [_report_in(output) for _, output in ended]
        stored, again = (sum(one[name] for one in reports) for name in ("stored", "already_stored"))
        if again or stored < waiting:
            raise StageError(f"two replays stored {stored} of {waiting} letters, and ran {again} a second time")

    async def lose_disk(self, listener: str) -> None:
        """Kill a listener once its letters are listed, and remove everything it had on its disk."""
        await self._until_listed()
        await self.kill(listener)
        file = self._system.layout.letter_files[self.listeners.index(listener)]
        for one in file.parent.glob(f"{file.name}*"):
            one.unlink()

    async def _until_listed(self) -> list[str]:
        """Return the unresolved letters once there are any, and all that files have are in the fleet's list."""
        deadline = time.monotonic() + LISTED_WITHIN
        while True:
            listed = await drill_records.open_in_list_and((), self.database_url)
            if listed and len(listed) >= len(drill_records.open_letters(self._system.layout.letter_files)):
                return listed
            if time.monotonic() > deadline:
                raise StageError(f"{len(listed)} letters were listed within {LISTED_WITHIN:g} s, and not all")
            await asyncio.sleep(REPLAY_AGAIN)

    async def _dlq(self, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            executable("dlq"), *arguments, env=self._environment(), stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode(errors="replace").strip()

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **self._system.layout.extra,
            "INSTANCE_ID": "drill-replay",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self._system.valkey.url if self._system.redis is None else self._system.redis.url,
            **HEALED,
        }

    def add_group(self, layout: Layout) -> None:
        """Audit another group too."""
        self._second = layout

    async def audit(self) -> list[str]:
        """Return the problems that ``unlost audit`` finds in each group."""
        found = await self.audit_of(self._system.layout, "unlost")
        if self._second is not None:
            found += await second.different_rows(self.database_url)
            found += await self.audit_of(self._second, second.GROUP)
        if self._feed is not None:
            found += self._feed.problems(await self.rows(ANY), await self.letters())
        return found

    async def audit_of(self, layout: Layout, group: str) -> list[str]:
        """Return the problems that ``unlost audit`` finds in one group."""
        settings = AuditSettings.load(
            {
                "letters": layout.letter_files, "producer_url": self.producer_url,
                "listeners": tuple(layout.listener_urls), "database_url": self.database_url, "group": group,
                "settle": 10.0, "unlost_token": "",
            }
        )  # fmt: skip
        try:
            account, _ = await audited(settings, ())
        except (FileError, UsageProblem) as error:
            return [f"unlost audit of group {group}: {error}"]
        return [] if account.is_balanced else [f"unlost audit of group {group}: {json.dumps(account.counts())}"]


def _report_in(output: str) -> dict[str, int]:
    """The report of a replay. Lines of its log may stand before and after it."""
    begins = output.find("{\n")
    if begins < 0:
        raise StageError(f"dlq replay gave no report: {output[-300:]}")
    report: dict[str, int] = json.JSONDecoder().raw_decode(output[begins:])[0]["report"]
    return report


@contextmanager
def _fed(data: Path, layout: Layout, foreign: bool) -> Iterator[Layout]:
    """If the drill needs it, run a source that cannot resume, and make the listeners read it."""
    if not foreign:
        yield layout
        return
    port = free_port()
    producer, address = layout.stream_url, f"ws://{LOOPBACK}:{port}/"
    feed = Child(
        "feed",
        [sys.executable, "-m", "unlost.ops.faults.drills.feed", producer, str(port)],
        log=data / "logs" / "feed.log",
    )
    feed.start()
    try:
        yield replace(layout, route=lambda _, url: address if url == producer else url)
    finally:
        feed.kill()


def _environment_of(drill: Drill, data: Path, settings: Mapping[str, str]) -> dict[str, str]:
    return {
        "lease": str(LEASE),
        "handler": drill.handler,
        "log_level": "info",
        "DRILL_RUNS": str(data / ("runs.pipe" if drill.fills_disk else "runs")),
        **settings,
    }


@contextmanager
def local_stage(
    drill: Drill, data: Path, listeners: int, say: Callable[[StartStep], None], *, console: bool = False
) -> Iterator[LocalStage]:
    """Run a private system within the block. Its console replays with the handler healed."""
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o711)  # if this user is root, PostgreSQL runs as another user
    ports = free_ports(listeners, console=console)
    extra = _environment_of(drill, data, drill.settings)
    with (
        _pipe_of_runs(data, drill.fills_disk),
        proxied(data, ports, drill.wires) as wires,
        ExitStack() as fed,
    ):
        layout = Layout(data, ports, extra, wires.route) if wires else Layout(data, ports, extra)
        layout = fed.enter_context(_fed(data, replace(layout, console_extra=HEALED), drill.foreign))
        broker = fed.enter_context(brokers.brokered(data, layout, drill.broker))
        feed = fed.enter_context(described(data, layout, drill.feed))
        if wires:
            layout.extra["source_name"] = layout.stream_url
        options = FEW_CONNECTIONS if drill.few_connections else ()
        pair = (
            PostgresPair(data, ports.postgres, log=layout.log("postgres"), options=options) if drill.standby else None
        )
        topology = TOPOLOGIES[drill.redis](data / "valkeys") if drill.redis != "one" else None
        system = System(
            layout, say, threading.Event(), postgres_options=options, redis=topology, pair=pair, pooled=drill.pooled
        )
        try:
            system.start()
            write_environment(
                layout, pair.url if pair else system.postgres.url, topology.url if topology else system.valkey.url
            )
            stage = LocalStage(system, drill, wires, broker, feed)
            if drill.two_groups:
                stage.add_group(fed.enter_context(second.second_group(system)))
            yield stage
            fed.close()
        finally:
            system.stop()


@contextmanager
def _pipe_of_runs(data: Path, needed: bool) -> Iterator[None]:
    """If needed, make a pipe that a child process copies into the file of runs."""
    if not needed:
        yield
        return
    pipe = data / "runs.pipe"
    os.mkfifo(pipe, 0o600)
    held_open = os.open(pipe, os.O_RDWR)  # so that its reader never sees an end of file
    copy = "import sys; [print(line, end='', flush=True) for line in open(sys.argv[1])]"
    reader = Child("runs", [sys.executable, "-c", copy, str(pipe)], log=data / "runs")
    reader.start()
    try:
        yield
    finally:
        reader.kill()
        os.close(held_open)
