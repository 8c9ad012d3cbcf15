"""A stage on this machine: a private system in its own directory, and all that a drill asks of it in the end."""

import asyncio
import json
import os
import time
from collections import Counter

from unlost.dlq.record.file import FileError
from unlost.ops.audit.cli import audited
from unlost.ops.audit.places import AuditSettings
from unlost.ops.faults.drills import journals, second
from unlost.ops.faults.drills import records as drill_records
from unlost.ops.faults.drills.local_parts import LocalParts
from unlost.ops.faults.drills.measure import Run, StoredEvent
from unlost.ops.faults.drills.shards import SECOND, SecondShard
from unlost.ops.faults.drills.stage import StageError
from unlost.ops.kit.command import UsageProblem
from unlost.ops.system.layout import Layout, executable

LISTED_WITHIN = 30.0
REPLAY_AGAIN = 1.0
ANY = ""
"""The prefix of all ids."""
HEALED = {"DRILL_HEALED": "1"}


class LocalStage(LocalParts):
    """Its parts, rows, letters and groups. See ``Stage`` for the methods."""

    async def prepare(self) -> None:
        """Create the table in which handlers' transactions record their effects."""
        await drill_records.prepare(self.database_url)
        if self._shard is not None:
            await drill_records.prepare(self._shard.database_url)

    async def rows(self, prefix: str) -> list[StoredEvent]:
        """Return the rows of a drill."""
        rows = await drill_records.rows_of(self.database_url, prefix, self._system.layout.group)
        return rows if self._shard is None else rows + await self._shard.rows(prefix)

    async def effects(self, prefix: str) -> Counter[str]:
        """Count the committed effects of each event's handler."""
        effects = await drill_records.effects_of(self.database_url, prefix)
        return effects if self._shard is None else effects + await self._shard.effects(prefix)

    async def count(self, prefix: str) -> int:
        """Count the rows. Raises ``StageError`` if PostgreSQL does not answer at once."""
        if self._shard is not None:  # it stores on while the other one's PostgreSQL is away
            return await self._shard.count(prefix)
        return await drill_records.count_of(self.database_url, prefix)

    async def runs(self) -> list[Run]:
        """Return every recorded handler run."""
        path = self._system.layout.data / "runs"
        return [Run.of(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def letters(self) -> list[str]:
        """The ids of events with unresolved letters."""
        layout = self._system.layout
        letters = await drill_records.open_in_list_and(layout.letter_files, self.database_url, layout.group)
        return letters if self._shard is None else letters + await self._shard.letters()

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
        """Kill a listener whose letters are all listed, and remove everything it had on its disk.

        It is frozen while this is looked at: a letter that it wrote right before it was killed would be lost for good.
        """
        file = self._system.layout.letter_files[self.listeners.index(listener)]
        deadline = time.monotonic() + LISTED_WITHIN
        while True:
            await self._until_listed()
            await self.freeze(listener)
            written = {*drill_records.open_letters([file])}
            if written <= {*await drill_records.open_in_list_and((), self.database_url)}:
                break
            await self.thaw(listener)
            if time.monotonic() > deadline:
                raise StageError(f"letters of {listener} were missing in the list for {LISTED_WITHIN:g} s")
        await self.kill(listener)
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

    def add_shard(self, shard: SecondShard) -> None:
        """Count the rows and letters of another shard too."""
        self._shard = shard

    async def audit(self) -> list[str]:
        """Return the problems that ``unlost audit`` finds in each group."""
        found = await self.audit_of(self._system.layout, self._system.layout.group)
        if self._shard is not None:
            found += await self.audit_of(self._shard.layout, SECOND, self._shard.database_url)
        if self._drill.producers > 1 or self._drill.journal_nodes or self._drill.journal_moves:
            found += await journals.declared_gaps(self.listener_urls)
        if self._second is not None:
            found += await second.different_rows(self.database_url)
            found += await self.audit_of(self._second, second.GROUP)
        if self._feed is not None:
            found += self._feed.problems(await self.rows(ANY), await self.letters())
        return found

    async def audit_of(self, layout: Layout, group: str, database_url: str = "") -> list[str]:
        """Return the problems that ``unlost audit`` finds in one group."""
        settings = AuditSettings.load(
            {
                "letters": layout.letter_files, "producer_url": self.producer_url,
                "listeners": tuple(layout.listener_urls), "database_url": database_url or self.database_url,
                "group": group,
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
