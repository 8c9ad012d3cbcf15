"""Shipping: copies letters and states from this instance's files to the fleet's list, and states back.

The file is the authority until PostgreSQL has a letter, and works alone without it. Shipping follows the file: it reads
what was appended, in batches that are bounded in count and bytes, and records in the sidecar how far it came. So a
restart continues there. If PostgreSQL lost rows meanwhile, the whole file is compared with the list by the letters'
ids. Changes that others make to letters of this instance (a replay elsewhere, the console) are written into its
sidecar, so that the files alone are complete too.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from unlost.dlq.record.file import FileError
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.shipped import Shipped, last_shipped, note_shipped, size_of
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states
from unlost.listener.app.shipped_files import inode_of, letter_in, lines_from, records_from
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.core.facts import (
    AttemptFailed,
    EffectBuried,
    EventBuried,
    Fact,
    Facts,
    LettersReopened,
    LettersResolved,
)
from unlost.listener.store.burials import burial_of
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable, LetterTotals
from unlost.ops.kit.telemetry.counted import counted

LOOK_EVERY_SECONDS = 2.0
AT_ONCE = 500
LAST_SECONDS = 3.0
COUNT_EVERY_SECONDS = 5.0
NOTE_EVERY_BYTES = 256 * 1024
NOTE_EVERY_SECONDS = 10.0
BEHIND_SECONDS = 30.0
"""For how long letters may be missing in the fleet's list before the listener's health says so."""

HealAfter = Callable[[Letter], float | None]
"""Seconds until listeners may retry a new letter by themselves; None: a human must."""


class LettersChanged:
    """A subscriber of facts: wakes shipping, so that a letter is listed at once."""

    subscribes_to = (EventBuried, EffectBuried, LettersResolved, LettersReopened)

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def __call__(self, _: Fact) -> None:
        """A letter was written, or its state changed."""
        self.event.set()


class Shipping:
    """Ships one instance's letters, and reads what others did to them. ``run`` is a task."""

    def __init__(
        self, path: Path, table: LetterTable, *, instance: str, heal_after: HealAfter, facts: Facts,
        changed: asyncio.Event, shipped: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Make one. ``changed``: there may be something to ship; ``shipped`` is called after letters were listed."""
        self._path = path
        self._beside = sidecar_path(path)
        self._table = table
        self._instance = instance
        self._heal_after = heal_after
        self._facts = facts
        self._shipped = shipped
        self._sidecar = Sidecar(path)
        self._wake = changed
        self._at = Shipped()
        self._to_note = 0
        self._noted_at = 0.0
        self._inodes = 0, 0
        self._begun = False
        self._comparing = True
        self._behind_since: float | None = None
        self._counted_at = -COUNT_EVERY_SECONDS
        self.error = ""
        self.refused = 0
        self.fleet = LetterTotals()
        """The sums over the whole list, as last counted."""

    async def run(self) -> None:
        """Ship until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._ship()
                    self.error = ""
                except (Transient, Permanent, Misconfigured, FileError, OSError) as error:
                    self.error = str(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_SECONDS):
                        await self._wake.wait()
                if self.error:
                    await asyncio.sleep(LOOK_EVERY_SECONDS)
        finally:
            self._sidecar.close()

    async def finish(self) -> None:
        """Ship the letters of this listener's end, so that a peer may retry them. The next start ships the rest."""
        with contextlib.suppress(Transient, Permanent, Misconfigured, FileError, OSError, TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._ship()
        self._sidecar.close()

    # -- one round ------------------------------------------------------------------------------

    async def _ship(self) -> None:
        loss = await self._table.last_loss()
        if not self._begun or loss != self._at.loss or await asyncio.to_thread(self._was_replaced):
            await self._begin(loss)
        states_end = await asyncio.to_thread(size_of, self._beside)
        while await self._ship_letters():
            pass
        while self._at.states < states_end:
            await self._ship_states(states_end)
        while await self._take_changes():
            pass
        await self._note()
        if time.monotonic() >= self._counted_at + COUNT_EVERY_SECONDS:
            self.fleet = await self._table.sums()
            self._counted_at = time.monotonic()

    def _was_replaced(self) -> bool:
        """Whether ``compact`` or a person has put another file in the place of one that was shipped."""
        before, self._inodes = self._inodes, (inode_of(self._path), inode_of(self._beside))
        replaced = any(old not in (0, new) for old, new in zip(before, self._inodes, strict=True))
        return replaced or size_of(self._path) < self._at.letters or size_of(self._beside) < self._at.states

    async def _begin(self, loss: str) -> None:
        """Begin where an earlier start came to, or at the beginning, if PostgreSQL or a file is another one."""
        known = Shipped() if self._begun else await asyncio.to_thread(last_shipped, self._path)
        self._at = known if known.loss == loss else Shipped(loss=loss)
        self._inodes = await asyncio.to_thread(lambda: (inode_of(self._path), inode_of(self._beside)))
        self._to_note = 0
        self._begun = self._comparing = True

    async def _ship_letters(self) -> bool:
        """List the next letters of the file; return whether there were any."""
        lines, end = await asyncio.to_thread(lines_from, self._path, self._at.letters, AT_ONCE)
        if end == self._at.letters:
            self._comparing = False
            self._behind_since = None
            return False
        self._behind_since = self._behind_since or time.monotonic()
        letters = [(letter, line) for line in lines if (letter := letter_in(line)) is not None]
        resolved: set[str] = set()
        if self._comparing and letters:
            absent = await self._table.absent([letter.letter_id for letter, _ in letters])
            letters = [one for one in letters if one[0].letter_id in absent]
            resolved = await asyncio.to_thread(self._resolved) if letters else resolved
        await self._add([self._listed(letter, line, resolved) for letter, line in letters])
        self._to_note += end - self._at.letters
        self._at = self._at._replace(letters=end)
        if letters:
            self._shipped()
        return True

    def _resolved(self) -> set[str]:
        return {letter_id for letter_id, state in states(self._path).items() if state.status == "resolved"}

    def _listed(self, letter: Letter, line: bytes, resolved: set[str]) -> Listed:
        # The event of a resolved letter may have been stored, and its row deleted, long ago: it is no burial.
        burial = None if letter.letter_id in resolved else burial_of(letter)
        return Listed(letter, line, burial, self._heal_after(letter))

    async def _add(self, letters: Sequence[Listed]) -> None:
        """List letters; one that PostgreSQL cannot accept holds back no others."""
        if not letters:
            return
        try:
            await self._table.add(self._instance, letters)
        except Permanent as error:
            if len(letters) == 1:
                self.refused += 1
                self._facts(AttemptFailed("ship", "permanent", str(error), False, 1, letters[0].letter.event_id))
                return
            middle = len(letters) // 2
            await self._add(letters[:middle])
            await self._add(letters[middle:])

    async def _ship_states(self, until: int) -> None:
        found, end = await asyncio.to_thread(records_from, self._beside, self._at.states, until, AT_ONCE)
        records = [record for record in found if record is not None and record.letter_id]
        if records:
            await self._table.note(records, shared=True)
        self._to_note += end - self._at.states if records else 0
        self._at = self._at._replace(states=end)

    async def _take_changes(self) -> bool:
        """Write into the sidecar what others did to our letters; return whether there was anything."""
        records = await self._table.to_share(self._instance, AT_ONCE)
        if records:
            await asyncio.to_thread(self._sidecar.append, records)
            await self._table.shared(records)
        return bool(records)

    async def _note(self) -> None:
        """Note how far shipping came: not after each letter, since that would cost another write to the disk."""
        lately = time.monotonic() - self._noted_at < NOTE_EVERY_SECONDS
        if not self._to_note or (lately and self._to_note < NOTE_EVERY_BYTES):
            return
        await asyncio.to_thread(note_shipped, self._sidecar, self._path, self._at, time.time())
        self._noted_at, self._to_note = time.monotonic(), 0

    # -- what others see ------------------------------------------------------------------------

    @property
    def listed(self) -> Shipped:
        """How far the file and its sidecar are listed."""
        return self._at

    def behind_bytes(self) -> int:
        """How many bytes of the file are not listed yet, as far as is known now."""
        with contextlib.suppress(OSError):
            return max(0, self._path.stat().st_size - self._at.letters)
        return 0

    def behind_seconds(self) -> float:
        """For how long letters have been waiting to be listed."""
        if not self.behind_bytes():
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.monotonic()
        return 0.0 if self._behind_since is None else time.monotonic() - self._behind_since

    def remark(self) -> str:
        """The remark for health; empty if all is well."""
        if self.refused:
            return f"PostgreSQL refuses {self.refused:,} dead letters: they stand in this instance's file alone"
        if self.behind_seconds() < BEHIND_SECONDS:
            return self._blocked_remark()
        why = f": {self.error}" if self.error else ""
        return f"{self.behind_bytes():,} bytes of dead letters are not in the fleet's list yet{why}"

    def _blocked_remark(self) -> str:
        if not self.fleet.blocked_keys:
            return ""
        blocked, age = counted(self.fleet.blocked_keys, "key"), self._blocked_seconds()
        return f"dead letters block {blocked}, the longest for {age:,.0f} s: later events of these wait; see dlq keys"

    def shown(self) -> dict[str, object]:
        """The counts of waiting letters in the fleet's list, for health."""
        fleet = self.fleet
        return {
            "waiting": fleet.waiting, "healing": fleet.healing, "needing_human": fleet.needing_human,
            "next_try_at": fleet.next_at, "unshipped_bytes": self.behind_bytes(), "blocked_keys": fleet.blocked_keys,
        }  # fmt: skip

    def gauges(self, registry: CollectorRegistry) -> None:
        """Show to Prometheus how far shipping is behind, and what waits in the fleet's list."""
        for name, about, value in (
            ("dead_letters_unshipped_bytes", "Bytes of the file that are not in the fleet's list", self.behind_bytes),
            ("dead_letters_unshipped_seconds", "For how long letters have been missing there", self.behind_seconds),
            ("letters_healing", "Letters of the whole group that are tried again", lambda: self.fleet.healing),
            ("letters_needing_human", "Letters of the whole group that wait for a human", self._needing_human),
            ("letters_needing_human_seconds", "Age of the oldest of them, 0 without one", self._oldest),
            ("blocked_keys", "Keys of the whole group that a dead letter blocks", lambda: self.fleet.blocked_keys),
            ("blocked_key_seconds", "For how long the longest of them, 0 without one", self._blocked_seconds),
            ("letters_next_try_seconds", "Seconds until a letter is tried again, 0 without one", self._next),
        ):
            Gauge(f"unlost_{name}", about, registry=registry).set_function(value)

    def _needing_human(self) -> float:
        return self.fleet.needing_human

    def _oldest(self) -> float:
        return 0.0 if self.fleet.oldest_at is None else max(0.0, time.time() - self.fleet.oldest_at)

    def _blocked_seconds(self) -> float:
        return 0.0 if self.fleet.blocked_since is None else max(0.0, time.time() - self.fleet.blocked_since)

    def _next(self) -> float:
        return 0.0 if self.fleet.next_at is None else max(0.0, self.fleet.next_at - time.time())
