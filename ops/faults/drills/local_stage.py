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
from unlost.ops.faults.drills import books as bookkeeping
from unlost.ops.faults.drills import journals, second
from unlost.ops.faults.drills.clocks import turn_back
from unlost.ops.faults.drills.drill import Drill
from unlost.ops.faults.drills.hoard import Hoard
from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.measure import Row, Run
from unlost.ops.faults.drills.stage import StageError, Wires
from unlost.ops.faults.drills.wires import ProxyWires, proxied
from unlost.ops.kit.command import SecretUrl, UsageProblem
from unlost.ops.system import copies
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, executable, free_ports, write_environment
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.system import Step, System

LEASE = 5.0
FEW_CONNECTIONS = ("-c", "max_connections=60")
ROOM_ON_FULL_DISK = 1
REPLAY_AGAIN = 1.0
STOPPED_WITHIN = 35.0
"""SHUTDOWN_TIMEOUT, plus the time for closing and for writing letters."""
HEALED = {"DRILL_HEALED": "1"}


class LocalStage:
    """See the module's docstring, and ``Stage`` for the methods."""

    def __init__(self, system: System, drill: Drill, wires: ProxyWires | None) -> None:
        layout = system.layout
        self.producer_url = layout.producer_url
        self.listener_urls = layout.listener_urls
        self.listeners = tuple(layout.listener_names)
        self.lease = float(layout.extra["lease"])
        self._system = system
        self._drill = drill
        self._wires = wires
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
        return self._system.postgres.url

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
        """Send SIGKILL to it and its children."""
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
            case "postgres" if not system.postgres.child.is_running:
                system.postgres.start()
            case "redis" | "postgres":
                self._child(part).thaw()
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
        parts = {"redis": lambda: self._system.valkey.child, "postgres": lambda: self._system.postgres.child}
        if part in parts:
            return parts[part]()
        return self._system.producer if part == "producer" else self._listener(part)

    def _listener(self, part: str) -> Child:
        return self._system.listeners[self.listeners.index(part)]

    async def _ended_if_asked(self, child: Child) -> None:
        """Wait until a listener that was asked to stop has ended; leave a running one alone."""
        if child.name.startswith("listener") and child.stopping:
            code = await asyncio.to_thread(child.stop, STOPPED_WITHIN)
            if code:
                raise StageError(f"{child.name} was stopped and ended with {code}; the end of its log:\n{child.tail()}")

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
        self._lock = self._lock or await bookkeeping.locked(self.database_url)

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
        await bookkeeping.prepare(self.database_url)

    async def rows(self, prefix: str) -> list[Row]:
        """Return the rows of a drill."""
        return await bookkeeping.rows_of(self.database_url, prefix)

    async def effects(self, prefix: str) -> Counter[str]:
        """Count the committed effects of each event's handler."""
        return await bookkeeping.effects_of(self.database_url, prefix)

    async def count(self, prefix: str) -> int:
        """Count the rows. Raises ``StageError`` if PostgreSQL does not answer at once."""
        return await bookkeeping.count_of(self.database_url, prefix)

    async def runs(self) -> list[Run]:
        """Return every recorded handler run."""
        path = self._system.layout.data / "runs"
        return [Run.of(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def letters(self) -> list[str]:
        """The ids of events with unresolved letters."""
        return bookkeeping.open_letters(self._system.layout.letter_files)

    async def replay(self) -> list[str]:
        """Run ``dlq replay`` on every file; repeat while a lost owner's lease on a letter's event still runs."""
        deadline = time.monotonic() + self.lease + 20
        problems = []
        for file in self._system.layout.letter_files:
            if not file.exists():
                continue
            while True:
                code, output = await self._dlq("replay", str(file), "--json")
                if code == 0 or time.monotonic() > deadline:
                    break
                await asyncio.sleep(REPLAY_AGAIN)
            if code:
                problems.append(f"dlq replay ended with {code}: {output[-300:]}")
        return problems

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
            "REDIS_URL": self._system.valkey.url,
            **HEALED,
        }

    def add_group(self, layout: Layout) -> None:
        """Audit another group too."""
        self._second = layout

    async def audit(self) -> list[str]:
        """Return the problems that ``unlost audit`` finds in each group."""
        found = await self._audit(self._system.layout, "unlost")
        if self._second is not None:
            found += await second.different_rows(self.database_url)
            found += await self._audit(self._second, second.GROUP)
        return found

    async def _audit(self, layout: Layout, group: str) -> list[str]:
        settings = AuditSettings(
            letters=layout.letter_files,
            producer_url=self.producer_url,
            listeners=tuple(layout.listener_urls),
            database_url=SecretUrl(self.database_url),
            group=group,
            settle=10.0,
        )
        try:
            account = await audited(settings, settings.letters)
        except (FileError, UsageProblem) as error:
            return [f"unlost audit of group {group}: {error}"]
        return [] if account.is_balanced else [f"unlost audit of group {group}: {json.dumps(account.counts())}"]


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
    drill: Drill, data: Path, listeners: int, say: Callable[[Step], None], *, console: bool = False
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
        if wires:
            layout.extra["source_name"] = layout.stream_url
        options = FEW_CONNECTIONS if drill.few_connections else ()
        system = System(layout, say, threading.Event(), postgres_options=options)
        try:
            system.start()
            write_environment(layout, system.postgres.url, system.valkey.url)
            stage = LocalStage(system, drill, wires)
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
