"""The stage of a compose project that runs already: hurt with ``docker compose`` stop, kill, pause, start.

PostgreSQL need not be published: rows are asked for inside its container. Letters and handler runs are read from the
listeners' containers, and replayed there. What only a local stage can do (fault proxies, a full disk, poisoned events)
is refused in one sentence. Unless the project runs with ``HANDLER=ops.drills.handlers:record``, no run is counted.
"""

import asyncio
import json
import shlex
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dlq.sidecar import sidecar_path
from ops.drills.books import EFFECTS, ROWS, TIMES, open_letters
from ops.drills.marks import ConsoleAt
from ops.drills.measure import OpenLetter, Row, Run
from ops.drills.stage import StageTrouble, Wires

PSQL = 'exec psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -XAtq -v ON_ERROR_STOP=1 -c "$0"'
LETTERS = "failed_events.jsonl"
RUNS = "drill-runs"
CALL_SECONDS = 120.0
REPLAY_AGAIN, REPLAYS = 2.0, 20


class ComposeStage:
    """See the module's head, and ``Stage`` for the calls."""

    def __init__(
        self, command: str, *, producer_url: str, listener_urls: Sequence[str], listeners: Sequence[str], lease: float,
        console: ConsoleAt | None,
    ) -> None:  # fmt: skip
        self._command = shlex.split(command)
        self.producer_url = producer_url
        self.listener_urls = listener_urls
        self.listeners = listeners
        self.lease = lease
        self.console = console
        self._frozen: set[str] = set()

    @property
    def wires(self) -> Wires:
        """None here."""
        raise StageTrouble("fault proxies are only to be had without --compose")

    async def stop(self, part: str) -> None:
        """``docker compose stop``."""
        await self._compose("stop", part)

    async def kill(self, part: str) -> None:
        """``docker compose kill``: SIGKILL, which no restart policy heals."""
        await self._compose("kill", part)

    async def freeze(self, part: str) -> None:
        """``docker compose pause``."""
        await self._compose("pause", part)
        self._frozen.add(part)

    async def thaw(self, part: str) -> None:
        """``docker compose unpause``."""
        if part in self._frozen:
            self._frozen.discard(part)
            await self._compose("unpause", part)

    async def start(self, part: str, *, empty: bool = False) -> None:
        """``docker compose start``; an empty Redis is flushed as soon as it answers."""
        await self._compose("start", part)
        if empty:
            await self._compose("exec", "-T", part, "redis-cli", "FLUSHALL")

    async def revive(self) -> None:
        """The restart policy does it."""

    async def take_connections(self) -> None:
        """Not here."""
        raise StageTrouble("PostgreSQL's connections can only be taken without --compose")

    async def give_connections(self) -> None:
        """Nothing was taken."""

    async def fill_disk(self) -> None:
        """Not here."""
        raise StageTrouble("a full disk is only to be had without --compose")

    async def free_disk(self) -> None:
        """Nothing was filled."""

    async def prepare(self) -> None:
        """Make the table in which transactions leave their trace."""
        await self._sql(EFFECTS)

    async def rows(self, prefix: str) -> list[Row]:
        """The rows of a drill."""
        found = await self._sql(ROWS.replace("$1", f"'{prefix}'"))
        fields = (line.rsplit("|", 4) for line in found.splitlines())
        return [Row(one, float(came), float(went), int(epoch), owner) for one, came, went, epoch, owner in fields]

    async def effects(self, prefix: str) -> Counter[str]:
        """How often the handler of each event took effect."""
        found = await self._sql(TIMES.replace("$1", f"'{prefix}'"))
        return Counter({one: int(times) for one, times in (line.rsplit("|", 1) for line in found.splitlines())})

    async def count(self, prefix: str) -> int:
        """How many rows a drill has."""
        return int(await self._sql(f"select count(*) from events where starts_with(event_id, '{prefix}')"))  # noqa: S608  our own prefix

    async def runs(self) -> list[Run]:
        """Every run that the handlers wrote down."""
        return [Run.of(line) for one in self.listeners for line in (await self._file(one, RUNS)).splitlines()]

    async def letters(self) -> list[OpenLetter]:
        """Every unresolved letter."""
        with tempfile.TemporaryDirectory(prefix="unlost-drill-") as directory:
            files = []
            for listener in self.listeners:
                file = Path(directory) / listener / LETTERS
                file.parent.mkdir()
                file.write_text(await self._file(listener, file.name))
                sidecar_path(file).write_text(await self._file(listener, sidecar_path(file).name))
                files.append(file)
            return open_letters(files)

    async def replay(self) -> list[str]:
        """``dlq replay`` in each listener's container, again while letters are held by an owner that is gone."""
        problems = []
        for listener in self.listeners:
            if not await self._file(listener, LETTERS):
                continue
            for _ in range(REPLAYS):
                code, told = await self._run("exec", "-T", "-e", "DRILL_HEALED=1", listener, "dlq", "replay", LETTERS)
                if code == 0:
                    break
                await asyncio.sleep(REPLAY_AGAIN)
            if code:
                problems.append(f"dlq replay in {listener} ended with {code}: {told[-300:]}")
        return problems

    async def audit(self) -> list[str]:
        """The rows and letters of the drill are the only count: the journal may hold more than this drill's events."""
        return []

    async def _file(self, service: str, name: str) -> str:
        """A file in a container's working directory; nothing where there is none."""
        _, text = await self._run("exec", "-T", service, "sh", "-c", f"cat {name} 2>/dev/null || true")
        return text

    async def _sql(self, statement: str) -> str:
        return await self._compose("exec", "-T", "postgres", "sh", "-c", PSQL, statement)

    async def _compose(self, *arguments: str) -> str:
        code, out = await self._run(*arguments)
        if code:
            raise StageTrouble(f"{shlex.join([*self._command, *arguments])[:200]} ended with {code}: {out[-300:]}")
        return out

    async def _run(self, *arguments: str) -> tuple[int, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise StageTrouble(f"{self._command[0]} cannot be run: {error}; give --compose-command") from error
        async with asyncio.timeout(CALL_SECONDS):
            out, told = await process.communicate()
        code = process.returncode or 0
        return code, (told if code else out).decode(errors="replace").strip()


async def compose_stage(
    command: str, *, producer_url: str, listener_urls: Sequence[str], lease: float, console: ConsoleAt | None
) -> ComposeStage:
    """The stage of the project in this directory, its services found out."""
    probe = ComposeStage(
        command, producer_url=producer_url, listener_urls=listener_urls, listeners=(), lease=lease, console=console
    )
    code, told = await probe._run("ps", "--services", "--status", "running")  # noqa: SLF001  its own maker
    services = sorted(told.split()) if not code else []
    listeners = [service for service in services if service.startswith("listener")]
    missing = {"redis", "postgres", "producer"} - set(services)
    if code or missing or len(listeners) != len(listener_urls):
        found = told[-300:] if code else json.dumps(services)
        raise StageTrouble(
            f"`{command}` shows no running project with redis, postgres, producer and {len(listener_urls)} listeners "
            f"here ({found}); start it, or name the listeners' addresses with --listener-urls"
        )
    return ComposeStage(
        command,
        producer_url=producer_url,
        listener_urls=listener_urls,
        listeners=listeners,
        lease=lease,
        console=console,
    )
