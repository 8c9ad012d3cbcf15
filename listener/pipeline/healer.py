"""The healer: retries dead letters whose cause may pass, without a human.

They are letters of an outage, of a stop, or of a handler whose dependency was away. They enter the pipeline behind all
events of the source, under their own ids, and use the same claims and the same handler. ``healing.py`` decides which
and when. The fleet's list leases each group of letters to one listener at a time. The outcome is durable before a
letter is marked as resolved. If the process is killed in between, another try finds the row. If PostgreSQL went back
and lost such rows, their letters wait again and are retried again.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import Facts, HealingInterrupted, LettersResolved, LettersTriedInVain
from unlost.listener.core.in_flight import InFlight
from unlost.listener.pipeline.healing import HealPolicy, has_stopped
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.tries import tried_as
from unlost.listener.ports.dead_letters import HealingGroup, HealingLetter, HealingLetters, Tried

LOOK_EVERY_SECONDS = 2.0
AGAIN_SECONDS = 5.0
RENEW_SECONDS = 10.0
FINISH_SECONDS = 3.0
GROUPS_AT_ONCE = 250
"""Many: a probe may wait for long, if its route pauses or its handler is slow. That must hold up no other group."""
TURN_SECONDS = 10.0
"""How long a group waits for a route that pauses, once that many are at work. Then another group has its turn."""
LETTERS_AT_ONCE = 100
REFUTED = "it counted as settled, but it is neither a row nor under another letter"
Ended = asyncio.Queue[tuple[HealingLetter, InFlight] | None]
"""Letters with their events that ended; None: nothing more is tried."""
Withdraw = Callable[[Sequence[InFlight]], Awaitable[bool]]
"""Takes out these events if all wait for a route that pauses; returns whether it did."""


class Offer(msgspec.Struct, eq=False):
    """Events of letters that were offered together."""

    at: float
    ended: Ended
    flights: list[InFlight] = []

    @property
    def left(self) -> list[InFlight]:
        """Those that have not ended."""
        return [one for one in self.flights if one.end is None]


class Healer:
    """Retries letters that are ready to be retried, until stopped or cancelled; checks at once after each ``again``."""

    def __init__(
        self,
        *,
        intake: Intake,
        letters: HealingLetters,
        who: str,
        withdraw: Withdraw,
        policy: HealPolicy,
        clocks: Clocks,
        facts: Facts,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """Make one. ``who`` is recorded with what was resolved."""
        self._intake = intake
        self._letters = letters
        self._who = who
        self._withdraw = withdraw
        self._policy = policy
        self._clocks = clocks
        self._facts = facts
        self._rng = rng
        self._requested = asyncio.Event()
        self._requested.set()
        self._busy = True
        self._at_work: set[asyncio.Task[None]] = set()
        self._leased: dict[HealingGroup, Sequence[str]] = {}
        """The groups at work, each with the letters taken of it. After an error a group is no longer here."""
        self._offering = asyncio.Lock()
        self._next_at = float("-inf")
        self._stopping = asyncio.Event()
        self._withdrawn = False
        self._offers: dict[Offer, None] = {}
        """The oldest first."""
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    @property
    def done(self) -> bool:
        """Whether no letter is ready to be retried."""
        return not self._busy and not self._at_work and not self._requested.is_set()

    def again(self) -> None:
        """Check again at once: there are new letters."""
        self._requested.set()

    def stop(self) -> None:
        """Offer nothing more. Letters already offered go on."""
        self._stopping.set()
        self._requested.set()

    async def finish(self) -> None:
        """Record how letters ended, and give back those that did not. Nothing is tried any more when this is called."""
        self.stop()
        self._withdrawn = True
        for offer in self._offers:
            offer.ended.put_nowait(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await self._all_ended.wait()

    async def run(self) -> None:
        """Retry letters until stopped or cancelled."""
        self._all_ended.clear()
        try:
            if self._policy.what != "off":
                await self._heal()
        finally:
            self._busy = False
            self._requested.clear()
            self._all_ended.set()

    async def _heal(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(self._keep(), name="keep letters")
            while not self._stopping.is_set():
                self._busy = True
                self._requested.clear()
                groups = await self._groups()
                for group in groups:
                    task = tasks.create_task(self._try_group(group), name=f"heal {group.fingerprint}")
                    self._at_work.add(task)
                    task.add_done_callback(self._group_ended)
                self._busy = False
                if not groups:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_SECONDS):
                            await self._requested.wait()
            if self._at_work:
                await asyncio.wait(self._at_work)
            keeping.cancel()

    def _group_ended(self, task: asyncio.Task[None]) -> None:
        self._at_work.discard(task)
        self._requested.set()

    async def _groups(self) -> Sequence[HealingGroup]:
        """Take groups whose time has come. Without room for a letter none is taken: peers may have room."""
        if len(self._at_work) >= GROUPS_AT_ONCE:
            await self._end_turns()
            return ()
        if self._intake.full:
            return ()
        try:
            return await self._letters.groups(GROUPS_AT_ONCE - len(self._at_work))
        except (Transient, Permanent):
            await self._pause(AGAIN_SECONDS)
            self._requested.set()
            return ()

    async def _end_turns(self) -> None:
        """Give back letters that have long waited for routes that pause, so that other groups have their turn."""
        latest = self._clocks.monotonic() - TURN_SECONDS
        for offer in [one for one in self._offers if one.at <= latest]:
            if (left := offer.left) and await self._withdraw(left):
                offer.ended.put_nowait(None)

    async def _stopped(self) -> None:
        await self._stopping.wait()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless this is stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if self._leased:
                letter_ids = [one for letter_ids in self._leased.values() for one in letter_ids]
                with contextlib.suppress(Transient, Permanent):
                    await self._letters.renew([*self._leased], letter_ids)

    async def _try_group(self, group: HealingGroup) -> None:
        """Try the oldest letter, then the others, until one batch fails as a whole, or none is left."""
        self._leased[group] = ()
        try:
            failures, waits = await self._try_letters(group)
            await self._letters.leave(group, failures, self._delay(failures) if waits else 0.0)
        except (Transient, Permanent) as error:
            self._facts(HealingInterrupted(group.fingerprint, str(error)))
            # Letters that were taken come back when their lease ends. So does the group, if it cannot be left now.
            with contextlib.suppress(Transient, Permanent):
                await self._letters.leave(group, group.failures, AGAIN_SECONDS)
        finally:
            self._leased.pop(group, None)

    async def _try_letters(self, group: HealingGroup) -> tuple[int, bool]:
        """Return how many times in a row the group has failed now, and whether it must wait for that."""
        most, failures = 1, group.failures
        while letters := await self._take(group, most):
            self._leased[group] = [one.letter_id for one in letters]
            began = self._clocks.monotonic()
            tried = await self._believed(letters, await self._try(letters))
            settled = sum(one.what in ("stored", "settled") for one in tried)
            stopped = has_stopped(settled, sum(one.lasts for one in tried))
            await self._record(group, tried, probe_failed=stopped)
            if stopped:
                return failures + 1, True
            if len(tried) < len(letters):
                return failures, not self._stopping.is_set()
            if settled:
                failures, most = 0, LETTERS_AT_ONCE
            self._next_at = max(self._next_at, began) + self._policy.seconds_for(len(letters))
            await self._pause(max(0.0, self._next_at - self._clocks.monotonic()))
        return failures, failures > 0 and not self._stopping.is_set()

    async def _take(self, group: HealingGroup, most: int) -> Sequence[HealingLetter]:
        """Take letters once there is room for them: in turn, so that they do not enter beyond it together."""
        async with self._offering:
            await self._room_or_stop()
            return () if self._stopping.is_set() else await self._letters.take(group, most)

    async def _room_or_stop(self) -> None:
        waiting = [asyncio.create_task(one) for one in (self._intake.wait_for_room(), self._stopped())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _try(self, letters: Sequence[HealingLetter]) -> list[Tried]:
        """Offer letters; return how they ended. Those that are not tried any more are given back."""
        ended: Ended = asyncio.Queue()
        offer = Offer(self._clocks.monotonic(), ended)
        self._offers[offer] = None
        try:
            if self._withdrawn:
                ended.put_nowait(None)
            else:
                for one in letters:
                    note = partial(_note, ended, one)
                    flight = self._intake.offer_behind(
                        one.frame, note, revive=one.claimed, edited=one.edited, order_key=one.order_key
                    )
                    offer.flights.append(flight)
            tried: list[Tried] = []
            while len(tried) < len(letters) and (found := await ended.get()):
                tried.append(tried_as(*found, who=self._who, policy=self._policy, again=self._next))
        finally:
            del self._offers[offer]
        known = {one.letter_id for one in tried}
        if left := [one.letter_id for one in letters if one.letter_id not in known]:
            await self._letters.untried(left)
        return tried

    async def _believed(self, letters: Sequence[HealingLetter], tried: Sequence[Tried]) -> list[Tried]:
        """Believe "settled" only of what is a row, or buried under another letter."""
        settled = [one.letter_id for one in tried if one.what == "settled"]
        refuted = set(await self._letters.refuted(settled)) if settled else set()
        by_id = {one.letter_id: one for one in letters}
        return [
            Tried(one.letter_id, "failed", REFUTED, None, self._next(by_id[one.letter_id]))
            if one.letter_id in refuted
            else one
            for one in tried
        ]

    async def _record(self, group: HealingGroup, tried: Sequence[Tried], *, probe_failed: bool) -> None:
        if not tried:
            return
        resolved = set(await self._letters.ended(group, tried, probe_failed=probe_failed))
        for why in dict.fromkeys(one.why for one in tried if one.letter_id in resolved):
            self._facts(LettersResolved([one.letter_id for one in tried if one.why == why], why))
        vain = Counter(one.why for one in tried if one.what == "failed")
        for why, count in vain.items():
            self._facts(LettersTriedInVain(count, group.fingerprint, why))

    def _next(self, letter: HealingLetter) -> float | None:
        """Return the seconds until a letter that failed again may be tried once more."""
        tries = letter.tries + 1
        return None if tries >= self._policy.attempts else self._delay(tries)

    def _delay(self, failures: int) -> float:
        return self._policy.delay(failures, self._rng())


def _note(ended: Ended, letter: HealingLetter, flight: InFlight) -> None:
    ended.put_nowait((letter, flight))
