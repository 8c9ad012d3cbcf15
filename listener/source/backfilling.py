"""Fetches the events that one source's declared gaps lack, and admits them like any received events.

The group's table of gaps is the list of work. A listener leases a gap for ``LEASE_SECONDS``, and renews the lease until
it has done. If it dies, another one takes the gap after that. A gap has an outcome once all fetched events are rows or
letters. So events that a listener had in memory when it died are fetched again. Fetching has a time limit; handlers of
fetched events may take as long as they like. While its listener is paused, it takes no gap and fetches no page.

Events whose ids are rows or letters already are left out: an HTTP interface often formats the same event differently,
which would be a conflict.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Protocol

import msgspec

from unlost.listener.core.backoff import FullJitter
from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.errors import Permanent, Transient, UnlostError
from unlost.listener.core.event import Event
from unlost.listener.core.facts import Facts, GapFetched
from unlost.listener.core.gap import FetchOutcome, Gap, GapTry
from unlost.listener.pipeline.frames import read_frames
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.ports.gaps import Gaps
from unlost.listener.ports.rows import Rows
from unlost.listener.ports.source import Batch, SourceEnded
from unlost.listener.source.feed.gaps import missing_numbers
from unlost.listener.source.feed.hook import Action, FetchedInPart, Fetching, NotFetchable
from unlost.listener.source.feed.taking import taking_of
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.printable import printable

LOOK_SECONDS = 2.0
"""Seconds between two reads of the list of gaps."""
TRY_SECONDS = 240.0
"""How long the pages of one gap may take, without the time that their events take."""
LEASE_SECONDS = 300.0
RENEW_SHARE = 1 / 3
"""The part of a lease after which it is renewed."""
SETTLING = "its events are fetched; they are being settled"
BACKOFF = FullJitter(first=10.0, longest=900.0)
LONGEST_WHY = 500
AT_ONCE = 1_000
"""Events of a page that are admitted together, so that a page of many never stops the event loop."""
MOST_IDS = 200_000
"""How many ids of one gap are compared, so that a repeated page counts once."""


class NumbersMissing(Exception):
    """All pages were fetched, and the numbers of the gap were not all among them."""


class StoreChanged(Exception):
    """PostgreSQL may have lost events that were settled, so the gap is fetched again."""


class FetchReceipt(msgspec.Struct, frozen=True):
    """The receipt of one page: the try in which it was fetched, and its number of events."""

    number: int
    count: int


Admit = Callable[[Callable[[Sequence[FetchReceipt]], None]], Inlet]
"""Makes the inlet for fetched events. The argument gets the receipts of settled ones."""


class Fetches(Protocol):
    """The part of a feed that fetches: see ``Feed``."""

    def fetch(self, gap: Gap) -> AsyncIterator[Iterable[Action]]:
        """Fetch what a gap has missed."""
        ...


class Backfiller:
    """Fetches for one source, one gap at a time."""

    def __init__(
        self,
        source: str,
        feed: Fetches,
        fetching: Fetching,
        *,
        admit: Admit,
        gaps: Gaps,
        rows: Rows,
        max_bytes: int,
        facts: Facts,
        held: Callable[[], str] = str,
        now: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """``held``: why a person paused this listener; empty if it may fetch."""
        self._source = source
        self._feed = feed
        self._fetching = fetching
        self._gaps = gaps
        self._rows = rows
        self._max_bytes = max_bytes
        self._facts = facts
        self._held = held
        self._now = now
        self._rng = rng
        self._number = self._found = self._settled = 0
        self._changed = asyncio.Event()
        self._read_again = False
        self.inlet = admit(self._are_settled)

    async def run(self) -> None:
        """Fetch until cancelled."""
        while True:
            await self._until_free()
            try:
                work = await self._gaps.take(self._source, after=self._fetching.after, lease=LEASE_SECONDS)
                if work is not None:
                    await self._fill(work)
                    continue
            except (Transient, Permanent):  # PostgreSQL: the gap stays in the list
                pass
            await asyncio.sleep(LOOK_SECONDS)

    async def _until_free(self) -> None:
        while self._held():  # noqa: ASYNC110 - pauses are looked at each second
            await asyncio.sleep(LOOK_SECONDS)

    def read_again(self) -> None:
        """Fetch the gap again: PostgreSQL may have lost events that were settled."""
        self.inlet.read_again()
        self._read_again = True
        self._changed.set()

    def _are_settled(self, receipts: Sequence[FetchReceipt]) -> None:
        self._settled += sum(one.count for one in receipts if one.number == self._number)
        self._changed.set()

    async def _fill(self, work: GapTry) -> None:
        self._number += 1
        self._found = self._settled = 0
        self._read_again = False
        keeping = asyncio.create_task(self._keep(work.gap), name="keep a gap")
        try:
            outcome, why, wait = await self._tried(work)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
        why = printable(masked(why))[:LONGEST_WHY]
        found = self._settled
        await self._gaps.fetched(work.gap.gap_id, found=found, outcome=outcome, why=why, wait=wait)
        self._facts(GapFetched(self._source, work.gap.gap_id, outcome, found, work.tries, why))

    async def _keep(self, gap: Gap) -> None:
        """Renew the lease until cancelled."""
        while True:
            await asyncio.sleep(LEASE_SECONDS * RENEW_SHARE)
            with contextlib.suppress(Transient, Permanent):
                await self._gaps.keep(gap.gap_id, lease=LEASE_SECONDS, why=SETTLING)

    async def _tried(self, work: GapTry) -> tuple[FetchOutcome | None, str, float]:
        """Fetch; return the outcome, why it is so, and how long to wait if there is none yet."""
        if self._now() - work.gap.declared_at > self._fetching.within:
            return "failed", f"the gap is older than {self._fetching.within:g} s (within)", 0.0
        if work.tries > self._fetching.tries:  # each listener that tried has died
            return "failed", f"{self._fetching.tries} tries had no end", 0.0
        wait = BACKOFF.delay(work.tries, self._rng())
        last: FetchOutcome = "failed"
        try:
            return await self._fetched(work.gap)
        except NotFetchable as error:
            return "failed", str(error), 0.0
        except StoreChanged:
            return None, "PostgreSQL may have lost events meanwhile", 0.0
        except SourceEnded as error:
            why, wait = error.loss.why, max(wait, error.loss.wait)
        except NumbersMissing as error:
            why, last = str(error), "partly"
        except UnlostError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - a feed may be a user's own code, and answers come from outside
            why = f"{type(error).__name__}: {error}"
        if work.tries >= self._fetching.tries:
            return last, f"after {work.tries} tries: {why}", 0.0
        return None, why, wait

    async def _fetched(self, gap: Gap) -> tuple[FetchOutcome, str, float]:
        seen, numbers = set[str](), set[int]()
        part = await self._fetch(gap, seen, numbers)
        await self._until_settled()
        if part:
            return "partly", part, 0.0
        if why := lacking(gap, len(seen), numbers):
            raise NumbersMissing(why)
        return "filled", "", 0.0

    async def _fetch(self, gap: Gap, seen: set[str], numbers: set[int]) -> str:
        """Admit all pages; return why there may be more. Ids and numbers of events are added to the sets."""
        clock, left = asyncio.get_running_loop().time, TRY_SECONDS
        async with closed_at_the_end(self._feed.fetch(gap)) as pages:
            while True:
                await self._until_free()
                began = clock()
                try:
                    page = await _page(pages, left)
                except FetchedInPart as error:
                    return str(error)
                left -= clock() - began
                if page is None:
                    return ""
                for at in range(0, len(page), AT_ONCE):
                    taking = taking_of(page[at : at + AT_ONCE])
                    numbers.update(number for (_, number), _ in taking.numbers[: MOST_IDS - len(numbers)])
                    await self._admit(taking.bodies, seen)

    async def _admit(self, bodies: Sequence[bytes], seen: set[str]) -> None:
        """Admit events that are neither rows nor letters."""
        read = read_frames(bodies, max_bytes=self._max_bytes)
        requests = [ClaimRequest(one.event_id, one.digest) for one in read if isinstance(one, Event)]
        # The id alone counts: HTTP interfaces word events differently, and each would be a conflict.
        known = {**await self._rows.settled(requests), **dict.fromkeys(seen)}
        new: list[bytes] = []
        for what, body in zip(read, bodies, strict=True):
            if isinstance(what, Event):
                if len(seen) < MOST_IDS:
                    seen.add(what.event_id)
                if what.event_id in known:
                    continue
                known[what.event_id] = None
            new.append(body)
        if new:
            await self.inlet.intake.wait_for_room()
            self._found += len(new)
            self.inlet.receive(Batch(new, [None] * len(new), [(len(new), FetchReceipt(self._number, len(new)))]))

    async def _until_settled(self) -> None:
        while self._settled < self._found and not self._read_again:
            self._changed.clear()
            await self._changed.wait()
        if self._read_again:
            raise StoreChanged


@contextlib.asynccontextmanager
async def closed_at_the_end(pages: AsyncIterator[Iterable[Action]]) -> AsyncIterator[AsyncIterator[Iterable[Action]]]:
    """Close pages however the context ends, if they are a generator: it may hold a connection open."""
    try:
        yield pages
    finally:
        if isinstance(pages, AsyncGenerator):
            await pages.aclose()


async def _page(pages: AsyncIterator[Iterable[Action]], seconds: float) -> Sequence[Action] | None:
    """Return the next page; None after the last one."""
    try:
        async with asyncio.timeout(seconds) as limit:
            page = await anext(pages, None)
    except TimeoutError:
        if limit.expired():
            raise Transient(f"the pages took longer than {TRY_SECONDS:g} s") from None
        raise
    return None if page is None else list(page)


def lacking(gap: Gap, ids: int, numbers: Collection[int]) -> str:
    """Return what of a gap in numbers was not among the fetched events; nothing if all was, or if nobody knows.

    ``ids``: how many different events were fetched. ``numbers``: theirs, if they have any.
    """
    if gap.how != "sequence" or gap.missing is None:
        return ""
    wanted = missing_numbers(gap)
    found = ids if wanted is None or not numbers else sum(number in wanted for number in numbers)
    return (
        f"of {gap.missing:,} missing events, the answers have {found:,}" if found < min(gap.missing, MOST_IDS) else ""
    )
