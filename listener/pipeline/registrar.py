"""The registrar: enters every letter in PostgreSQL's register, and resolves letters that are not needed.

A letter is on disk first. It is registered as soon as PostgreSQL answers; what is left then is registered at the next
start of this instance. From then on only a replay makes the event a row. If the event is a row already (a reply was
lost, or a peer stored it), or has another letter, this letter is marked as resolved, as a replay would do. So in the
end an event is one row, or one letter that waits. A transaction that was running while its letter was registered may
still commit a row. Therefore the letter is checked once more after every such transaction must have ended.

PostgreSQL may lose rows when it is restored or fails over. Each loss is recorded there. After each loss, also one that
happened while this instance was down, its resolved letters are compared with the rows. A letter whose event is neither
a row nor under another letter is reopened.

Memory is bounded. Letters for which there is no room are read from the file again, and are not checked a second time.
"""

import asyncio
import contextlib
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import AttemptFailed, Facts, LettersReopened, LettersResolved
from unlost.listener.ports.dead_letters import (
    Burial,
    LetterRegister,
    Letters,
    Standing,
    StoreLoss,
    each_claim_once,
)

RETRY_SECONDS = 0.5
READ_AGAIN_SECONDS = 5.0
CHECK_AGAIN_SECONDS = 1.0
BATCH = 500
MOST_HELD = 50_000
WHY: dict[Standing, str] = {"stored": "already stored", "elsewhere": "another letter of the same event waits"}
"""The reason recorded for a letter that needs no replay."""


class _Entry(NamedTuple):
    """A letter to register, or to check once more later; sorted by time."""

    due: float
    number: int
    burial: Burial
    entered: bool


class Registrar:
    """Receives letters with ``put``; ``run`` registers them."""

    def __init__(
        self,
        *,
        register: LetterRegister,
        letters: Letters,
        reopened: Callable[[], None],
        registered: Callable[[Sequence[Burial]], None] = lambda _: None,
        look_again_after: float,
        clocks: Clocks,
        facts: Facts,
    ) -> None:
        """Make one. ``reopened`` is called when letters wait again, ``registered`` once PostgreSQL has letters."""
        self._registered = registered
        self._register = register
        self._letters = letters
        self._reopened = reopened
        self._after = look_again_after
        self._clocks = clocks
        self._facts = facts
        self._entries: list[_Entry] = []
        self._numbers = itertools.count()
        self._changed = asyncio.Event()
        self._read_at = self._check_at = -math.inf
        self._busy = False

    @property
    def unsure(self) -> bool:
        """Whether this process must still check any letter."""
        return self._busy or min(self._read_at, self._check_at) < math.inf or bool(self._entries)

    def put(self, burials: Iterable[Burial]) -> None:
        """Register these letters."""
        if not self._put(burials, entered=False, wait=0.0):
            self._read_at = self._clocks.monotonic()

    def read_again(self) -> None:
        """Register letters again and check resolved ones: PostgreSQL may have lost rows and registrations."""
        self._read_at = self._check_at = self._clocks.monotonic()
        self._changed.set()

    def _put(self, burials: Iterable[Burial], *, entered: bool, wait: float) -> bool:
        """Keep these for ``wait`` seconds; return False if there was no room for some."""
        due = self._clocks.monotonic() + wait
        for burial in burials:
            if len(self._entries) >= MOST_HELD:
                return False
            heapq.heappush(self._entries, _Entry(due, next(self._numbers), burial, entered))
        self._changed.set()
        return True

    async def run(self) -> None:
        """Register letters until cancelled."""
        while True:
            if self._read_at <= self._clocks.monotonic():
                await self._read()
            if self._check_at <= self._clocks.monotonic():
                await self._check()
            batch = self._take()
            self._busy = bool(batch)
            for entered in (False, True):
                burials = [one.burial for one in batch if one.entered is entered]
                try:
                    await self._enter(burials, entered=entered)
                except Transient:
                    self._put(burials, entered=entered, wait=0.0)
                    await asyncio.sleep(RETRY_SECONDS)
            self._busy = False
            if not batch:
                await self._wait()

    async def _read(self) -> None:
        """Register letters that an earlier start left, and those for which there was no room."""
        self._read_at, self._busy = math.inf, True
        try:
            async for burials in self._letters.waiting():
                await self._enter(burials, entered=False)
        except Transient:
            self._read_at = self._clocks.monotonic() + READ_AGAIN_SECONDS

    async def _check(self) -> None:
        """Compare the resolved letters with PostgreSQL, if it may have lost rows since the last comparison."""
        self._check_at, self._busy = math.inf, True
        try:
            loss = await self._register.loss(await self._letters.checked())
            if loss is not None:
                await self._reopen(loss)
        except (Transient, Permanent):
            self._check_at = self._clocks.monotonic() + CHECK_AGAIN_SECONDS

    async def _reopen(self, loss: StoreLoss) -> None:
        async with contextlib.aclosing(self._letters.reopened(loss, self._register.gone)) as again:
            async for burials in again:
                if burials:
                    self._facts(LettersReopened([one.letter_id for one in burials]))
                    await self._enter(burials, entered=False)
                    self._reopened()

    def _take(self) -> list[_Entry]:
        """Take the entries whose time has come, at most one batch."""
        now = self._clocks.monotonic()
        taken: list[_Entry] = []
        while self._entries and self._entries[0].due <= now and len(taken) < BATCH:
            taken.append(heapq.heappop(self._entries))
        return taken

    async def _wait(self) -> None:
        self._changed.clear()
        next_due = min(self._read_at, self._check_at, self._entries[0].due if self._entries else math.inf)
        pause = None if next_due == math.inf else max(0.0, next_due - self._clocks.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._changed.wait()

    async def _enter(self, burials: Sequence[Burial], *, entered: bool) -> None:
        for some in each_claim_once(burials):
            try:
                standings = await self._register.enter(some)
            except Permanent as error:
                await self._enter_halves(some, error, entered=entered)
                continue
            found = list(zip(some, standings, strict=True))
            if not entered:
                self._registered([one for one, standing in found if not _must_block(one, standing)])
                self._put([one for one, s in found if _must_block(one, s)], entered=False, wait=CHECK_AGAIN_SECONDS)
            for needless in WHY:
                await self._resolve([one for one, standing in found if standing == needless], needless)
            # A transaction that was open while its letter was entered may store the row. By then it has ended.
            self._put(_to_look_at_again(found, entered=entered), entered=True, wait=self._after)

    async def _resolve(self, burials: Sequence[Burial], standing: Standing) -> None:
        if burials:
            why = WHY[standing]
            if resolved := await self._letters.resolve([one.letter_id for one in burials], why):
                self._facts(LettersResolved(resolved, why))

    async def _enter_halves(self, burials: Sequence[Burial], error: Permanent, *, entered: bool) -> None:
        """Register the halves separately, so that a letter that PostgreSQL cannot accept blocks no others."""
        if len(burials) == 1:
            keyed = burials[0].order_key is not None
            self._facts(AttemptFailed("bury", "permanent", str(error), keyed, 1, burials[0].claim_id))
            if keyed:  # without it, later events of the key would not wait
                self._put(burials, entered=False, wait=CHECK_AGAIN_SECONDS)
            return
        middle = len(burials) // 2
        await self._enter(burials[:middle], entered=entered)
        await self._enter(burials[middle:], entered=entered)


def _to_look_at_again(found: Iterable[tuple[Burial, Standing]], *, entered: bool) -> list[Burial]:
    """Return the letters to check again: each waiting one once, and those whose events are held, until they are not."""
    waiting = ((burial, standing) for burial, standing in found if standing not in WHY)
    return [
        burial
        for burial, standing in waiting
        if (not entered or (standing == "open" and burial.claimed)) and (entered or not _must_block(burial, standing))
    ]


def _must_block(burial: Burial, standing: Standing) -> bool:
    """Whether a letter must still be entered, so that later events of its key wait: another's lease runs."""
    return burial.order_key is not None and burial.claimed and standing == "open"
