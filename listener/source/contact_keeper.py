"""Keeps the contact with a source over a restart, so that what no listener received meanwhile is a declared gap.

About once a second, with the cursor, each listener writes one small row for the source: when it last received
something, and the last numbers that it counted. A listener that starts compares these rows with its own messages:

- A listener that was connected after this one had connected has missed nothing before, or declares that itself.
- Otherwise the gap ends when this one connected. If the numbers are kept, it is in them. If not, it began with the
  last sign of life of any listener. It is declared before this listener writes a row of its own.

If the source does not resume, the row says up to where every event is a row or a letter. So the events that a killed
listener had in memory are part of the gap. The numbers of a source that resumes are written before the cursor,
so that they are never behind it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.core.facts import CursorNotSaved, Facts
from unlost.listener.core.gap import LastContact
from unlost.listener.core.watermark import Watermark
from unlost.listener.ports.gaps import Gaps
from unlost.listener.source.feed.contact import Contact

PROOF_SECONDS = 5.0
"""A listener that has written nothing for so long is not connected, or not alive."""
MOST_NAMES = 1_000
MOST_CHARACTERS = 50_000
"""If more names are counted, or longer ones, none is kept, and the gap over a restart is one of unknown size."""
LARGEST = 2**63
Numbers = Mapping[str, int]


class Numbering(Protocol):
    """The numbers of a source's events."""

    @property
    def put(self) -> int:
        """How many messages it has passed on, or has ready."""
        ...

    def numbers(self) -> Numbers | None:
        """Return the last number of each name; None if its events are not numbered across connections."""
        ...

    def follow(self, numbers: Numbers, *, missed: bool) -> bool:
        """Continue after these numbers; return False if those of now cannot be compared with them.

        ``missed``: declare what is missing between them and those received since.
        """
        ...


class Kept(Protocol):
    """A source whose contact is kept."""

    name: str
    contact: Contact

    @property
    def numbering(self) -> Numbering | None:
        """The numbers of its events, if they may have any."""
        ...

    @property
    def resumes(self) -> bool:
        """See ``Source``."""
        ...


class Snapshot(msgspec.Struct):
    """Numbers of messages that are not all settled yet. ``passed``: once this many positions are, they are."""

    numbers: Numbers | None
    put: int
    passed: int | None = None


class ContactKeeper:
    """Keeps the contact of one source.

    ``taken``: how many of its messages were taken. ``lag``: the age of its oldest event that is not settled.
    """

    def __init__(
        self,
        source: Kept,
        gaps: Gaps,
        *,
        taken: Callable[[], int],
        watermark: Callable[[], Watermark],
        lag: Callable[[], float],
        facts: Facts,
    ) -> None:
        self._source = source
        self._gaps = gaps
        self._taken = taken
        self._watermark = watermark
        self._lag = lag
        self._facts = facts
        self._compared = False
        self._reading = 0
        self._next: Snapshot | None = None
        self._numbers: Numbers | None = None
        self._saved: Numbers | None = None

    async def save(self) -> None:
        """Write the row. At first, compare those of the others: that may take until the next save."""
        source = self._source
        if source.contact.opened_at is None or not self._is_needed:
            return
        try:
            self._compared = self._compared or await self._compare(source.contact.opened_at)
            if self._compared:
                await self._write()
        except (Transient, Permanent) as error:
            self._facts(CursorNotSaved(f"the last contact with {source.name}: {error}"))

    @property
    def _is_needed(self) -> bool:
        if not self._source.resumes:
            return True
        return self._source.numbering is not None and self._source.numbering.numbers() is not None

    async def _compare(self, opened_at: float) -> bool:
        """Declare what was missed before this listener connected; return whether that is decided."""
        since = asyncio.get_running_loop().time() - opened_at
        others = await self._gaps.contacts(self._source.name)
        if not others:
            return True
        missed = True
        if not self._source.resumes:
            youngest = min(one.connected_ago for one in others)
            missed = youngest >= since
            if missed and youngest < PROOF_SECONDS:
                return False
        last = min(others, key=lambda one: one.heard_ago)
        numbering = self._source.numbering
        numbers = None if last.numbers is None else _furthest(others)
        shown = numbering is not None and numbers is not None and numbering.follow(numbers, missed=missed)
        if missed and not shown and not self._source.resumes:
            self._source.contact.disconnected_for(last.heard_ago, once=f"{last.heard_at:.3f}")
        return True

    async def _write(self) -> None:
        contact, numbering = self._source.contact, self._source.numbering
        heard_at = contact.heard_at
        assert heard_at is not None
        if numbering is not None and self._source.resumes:
            self._numbers = _bounded(numbering.numbers())
            if self._numbers == self._saved:
                return
        elif numbering is not None:
            for _ in range(2):  # the one that waits, and that of now
                self._settle(numbering)
        ago = max(0.0, asyncio.get_running_loop().time() - heard_at)
        connected_ago = 0.0 if contact.connected else ago
        # A kill loses what is not settled, so the gap begins before it.
        kept = LastContact(max(ago, self._lag()), connected_ago, self._numbers)
        await self._gaps.keep_contact(self._source.name, kept)
        self._saved = self._numbers

    def _settle(self, numbering: Numbering) -> None:
        """Look whether the numbers of a moment ago are settled; begin with those of now, if there are none."""
        watermark = self._watermark()
        if watermark.reading != self._reading:
            self._reading, self._next = watermark.reading, None
        if self._next is None:
            self._next = Snapshot(_bounded(numbering.numbers()), numbering.put)
        snapshot = self._next
        if snapshot.passed is None and self._taken() >= snapshot.put:
            snapshot.passed = watermark.opened
        if snapshot.passed is not None and watermark.passed >= snapshot.passed:
            self._numbers, self._next = snapshot.numbers, None


def _bounded(numbers: Numbers | None) -> Numbers | None:
    if numbers is None or len(numbers) > MOST_NAMES or sum(map(len, numbers)) > MOST_CHARACTERS:
        return None
    return dict(numbers) if all(abs(number) < LARGEST for number in numbers.values()) else None


def _furthest(contacts: Sequence[LastContact]) -> Numbers:
    """Return the furthest number of each name."""
    numbers: dict[str, int] = {}
    for one in contacts:
        for by, number in (one.numbers or {}).items():
            numbers[by] = max(number, numbers.get(by, number))
    return numbers
