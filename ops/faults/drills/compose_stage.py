"""A stage made of a running compose project, which is damaged by ``docker compose`` stop, kill, pause, start.

PostgreSQL's port need not be published: queries run inside its container. Letters and handler runs are read in the
listeners' containers, and letters are replayed there. Acts that only a local stage supports (fault proxies, a full
disk, poisoned events) are refused with one sentence. A project whose handler does not record its runs is refused too,
since no verdict would be possible.
"""

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlost.dlq.record.sidecar import sidecar_path
from unlost.listener.store.postgres.reports import report
from unlost.ops.faults.drills.compose_calls import SHOWN, Compose
from unlost.ops.faults.drills.drill import IN_TRANSACTION, RECORD
from unlost.ops.faults.drills.marks import ConsoleAt
from unlost.ops.faults.drills.measure import Run, StoredEvent
from unlost.ops.faults.drills.records import EFFECTS, TIMES, open_letters
from unlost.ops.faults.drills.stage import FaultProxies, StageError

PSQL = 'exec psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -XAtq -v ON_ERROR_STOP=1 -c "$0"'
LETTERS = "failed_events.jsonl"
RUNS = "drill-runs"
READY_SECONDS, LOOK_SECONDS = 60.0, 0.1
REPLAY_AGAIN, REPLAYS = 2.0, 20
FORGET = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "redis", "-c", "rm -rf /data/*")
"""Empties Redis before its start. Emptied afterwards, it would also forget claims made since the start."""


class ComposeStage:
    """See the module's docstring, and ``Stage`` for the methods."""

    def __init__(
        self,
        compose: Compose,
        *,
        producer_url: str,
        listener_urls: Sequence[str],
        listeners: Sequence[str],
        lease: float,
        console: ConsoleAt | None,
        headers: Mapping[str, str],
    ) -> None:
        self.headers = headers
        self.producer_url = producer_url
        self.listener_urls = listener_urls
        self.listeners = listeners
        self.lease = lease
        self.console = console
        self.upgraded_from: str | None = None
        self._compose = compose
        self._frozen: set[str] = set()

    @property
    def wires(self) -> FaultProxies:
        """Not available here."""
        raise StageError("fault proxies are available only without --compose")

    async def stop(self, part: str) -> None:
        """``docker compose stop``."""
        await self._compose.call("stop", part)

    async def kill(self, part: str) -> None:
        """``docker compose kill``: SIGKILL, after which no restart policy applies."""
        await self._compose.call("kill", part)

    async def freeze(self, part: str) -> None:
        """``docker compose pause``."""
        await self._compose.call("pause", part)
        self._frozen.add(part)

    async def thaw(self, part: str) -> None:
        """``docker compose unpause``."""
        if part in self._frozen:
            self._frozen.discard(part)
            await self._compose.call("unpause", part)

    async def start(self, part: str, *, empty: bool = False) -> None:
        """``docker compose start``; on return a server is ready, but listeners and producer may still be starting."""
        if empty:
            await self._compose.call(*FORGET)
        await self._compose.call("start", part)
        if part in ("redis", "postgres"):
            await self._until_ready(part)

    async def configure(self, part: str, **settings: str) -> None:  # noqa: ARG002
        """Not here: a container keeps the environment that it was created with."""
        raise StageError(f"the settings of {part} stand in the project's files; run this drill locally")

    async def upgrade(self, part: str) -> None:  # noqa: ARG002
        """Not here."""
        raise StageError("another version takes over on this machine only")

    async def migrate(self) -> None:
        """Not here."""
        raise StageError("another version takes over on this machine only")

    async def revive(self) -> None:
        """The restart policy does it."""

    async def take_connections(self) -> None:
        """Not here."""
        raise StageError("PostgreSQL's connections can only be taken without --compose")

    async def lock_events(self) -> None:
        """Not here."""
        raise StageError("the table of events can only be locked without --compose")

    async def unlock_events(self) -> None:
        """Nothing was locked."""

    async def give_connections(self) -> None:
        """Nothing was taken."""

    async def start_second_producer(self) -> None:
        """Not here."""
        raise StageError("a second producer is started on this machine only")

    async def producer_is_ready(self, part: str) -> None:  # noqa: ARG002
        """Not available here."""
        raise StageError("several producers are available only without --compose")

    async def turn_clock_back(self) -> None:
        """Not here."""
        raise StageError("Redis' clock is turned back only without --compose")

    async def back_up_journal(self) -> None:
        """Not here."""
        raise StageError("the journal is restored on this machine only")

    async def restore_journal(self) -> None:
        """Not here."""
        raise StageError("the journal is restored on this machine only")

    async def move_journal(self, *, back: bool = False) -> None:  # noqa: ARG002  the protocol's signature
        """Not here."""
        raise StageError("the journal moves on this machine only")

    async def back_up_postgres(self) -> None:
        """Not here."""
        raise StageError("PostgreSQL is restored on this machine only")

    async def restore_postgres(self) -> None:
        """Not here."""
        raise StageError("PostgreSQL is restored on this machine only")

    async def dump_postgres(self) -> None:
        """Not here."""
        raise StageError("a dump is restored on this machine only")

    async def restore_dump(self) -> None:
        """Not here."""
        raise StageError("a dump is restored on this machine only")

    async def lose_disk(self, listener: str) -> None:  # noqa: ARG002
        """Not here."""
        raise StageError("a disk is lost on this machine only")

    async def replay_twice_at_once(self) -> None:
        """Not here."""
        raise StageError("letters are replayed twice at once on this machine only")

    async def end_connections(self) -> None:
        """Not here."""
        raise StageError("a feed ends connections by a plan on this machine only")

    async def fail_over_redis(self) -> None:
        """Not available here."""
        raise StageError("several Redis servers are available only without --compose")

    async def promote_standby(self) -> None:
        """Not available here."""
        raise StageError("a standby of PostgreSQL is available only without --compose")

    async def fill_disk(self) -> None:
        """Not here."""
        raise StageError("a full disk is available only without --compose")

    async def free_disk(self) -> None:
        """Nothing was filled."""

    async def prepare(self) -> None:
        """Create the table in which handlers' transactions record their effects."""
        await self._sql(EFFECTS)

    async def rows(self, prefix: str) -> list[StoredEvent]:
        """Return the rows of a drill."""
        found = await self._sql(_about("rows_of_drill", prefix))
        fields = (line.rsplit("|", 3) for line in found.splitlines())
        return [StoredEvent(one, float(came), float(went), int(epoch)) for one, came, went, epoch in fields]

    async def effects(self, prefix: str) -> Counter[str]:
        """Count the committed effects of each event's handler."""
        found = await self._sql(TIMES.replace("$1", f"'{prefix}'"))
        return Counter({one: int(times) for one, times in (line.rsplit("|", 1) for line in found.splitlines())})

    async def count(self, prefix: str) -> int:
        """Count the rows of a drill."""
        return int(await self._sql(_about("count_of_drill", prefix)))

    async def runs(self) -> list[Run]:
        """Return every recorded handler run, of this drill and of earlier ones."""
        texts = [text for one in self.listeners for text in await self._compose.files(one, [RUNS])]
        return [Run.of(line) for text in texts for line in text.splitlines()]

    async def letters(self) -> list[str]:
        """The ids of events with unresolved letters."""
        with tempfile.TemporaryDirectory(prefix="unlost-drill-") as directory:
            files = []
            for listener in self.listeners:
                file = Path(directory) / listener / LETTERS
                file.parent.mkdir()
                sidecar = sidecar_path(file)
                texts = await self._compose.files(listener, [file.name, sidecar.name])
                for copy, text in zip((file, sidecar), texts, strict=True):
                    copy.write_text(text)
                files.append(file)
            return open_letters(files)

    async def replay(self) -> list[str]:
        """Run ``dlq replay`` in each listener's container; repeat while a dead owner still holds claims on letters."""
        problems = []
        for listener in self.listeners:
            if not any(await self._compose.files(listener, [LETTERS])):
                continue
            for _ in range(REPLAYS):
                code, output = await self._compose.run(
                    "exec", "-T", "-e", "DRILL_HEALED=1", listener, "dlq", "replay", LETTERS
                )
                if code == 0:
                    break
                await asyncio.sleep(REPLAY_AGAIN)
            if code:
                problems.append(f"dlq replay in {listener} ended with {code}: {output[-SHOWN:]}")
        return problems

    async def audit(self) -> list[str]:
        """Nothing: the journal may hold other events too, so only the rows and letters of the drill are checked."""
        return []

    async def _until_ready(self, server: str) -> None:
        """Return once the server answers: ``docker compose start`` does not wait until it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while refused := await self._refusal(server):
            if time.monotonic() > deadline:
                raise StageError(f"{server} was started, and is not ready: {refused}")
            await asyncio.sleep(LOOK_SECONDS)

    async def _refusal(self, server: str) -> str:
        """Return why a server cannot be used yet, or an empty text."""
        try:
            if server == "postgres":
                await self._sql("select 1")
                return ""
            answer = await self._compose.inside(server, "redis-cli", "ping")
        except StageError as error:
            return str(error)
        return "" if answer == "PONG" else answer or "no answer"

    async def _sql(self, statement: str) -> str:
        return await self._compose.inside("postgres", "sh", "-c", PSQL, statement)


def _about(name: str, prefix: str) -> str:
    return report(name).replace("$1", f"'{prefix}'")


async def compose_stage(
    command: str, *, producer_url: str, listener_urls: Sequence[str], console: ConsoleAt | None,
    headers: Mapping[str, str],
) -> ComposeStage:  # fmt: skip
    """Make the stage of the project in this directory, after finding its services and its lease."""
    compose = Compose(command)
    code, output = await compose.run("ps", "--services", "--status", "running")
    services = sorted(output.split()) if not code else []
    listeners = [service for service in services if service.startswith("listener")]
    missing = {"redis", "postgres", "producer"} - set(services)
    if code or missing or len(listeners) != len(listener_urls):
        found = output[-SHOWN:] if code else json.dumps(services)
        raise StageError(
            f"`{command}` shows no running project with redis, postgres, producer and {len(listener_urls)} listeners "
            f"here ({found}); start it, or name the listeners' addresses with --listener-urls"
        )
    lease = max([await _lease(compose, listener) for listener in listeners])
    return ComposeStage(
        compose,
        producer_url=producer_url,
        listener_urls=listener_urls,
        listeners=listeners,
        lease=lease,
        console=console,
        headers=headers,
    )


async def _lease(compose: Compose, listener: str) -> float:
    """Return the lease of a listener, after checking that its handler is suitable for drills."""
    settings = json.loads(await compose.inside(listener, "unlost", "listener", "--show-settings", "--json"))
    if settings["handler"] not in (RECORD, IN_TRANSACTION):
        raise StageError(
            f"{listener} runs with HANDLER={settings['handler']}, which does not record its runs; start it again "
            f"with HANDLER={RECORD}, as `docker compose --env-file ops/deploy/compose/drills.env up -d` does"
        )
    return float(settings["lease"])
