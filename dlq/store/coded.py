"""Letters behind a codec: everything above sees plain events and texts, and everything below keeps encoded ones."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from msgspec.structs import replace

from unlost.dlq.record.coded import decoded, decoded_record, encoded_record
from unlost.dlq.record.file import DamagedLine
from unlost.dlq.record.letter_state import Record, Status, What
from unlost.dlq.record.query import Selection
from unlost.dlq.store.entries import LetterEntry, LetterGroup, Statistics
from unlost.dlq.store.port import LetterPage, LetterStore, Plan, TakenLetters
from unlost.listener.core.codec import EventCodec, Unreadable


def decoded_entry(entry: LetterEntry, codec: EventCodec) -> LetterEntry:
    """Return an entry with plain content. If that is impossible, ``unreadable`` says why."""
    try:
        edited = None if entry.edited is None else codec.decode_frame(entry.edited)
        return replace(entry, letter=decoded(entry.letter, codec), edited=edited)
    except Unreadable as error:
        return replace(entry, unreadable=entry.unreadable or str(error))


def shown_entry(entry: LetterEntry, codec: EventCodec | None) -> LetterEntry:
    """Return an entry as it can be shown here."""
    return entry if codec is None else decoded_entry(entry, codec)


class DecodedLetters:
    """A ``LetterStore`` on another one."""

    def __init__(self, store: LetterStore, codec: EventCodec) -> None:
        self._store = store
        self._codec = codec

    @property
    def kept(self) -> LetterStore:
        """The letters as they are kept."""
        return self._store

    @property
    def where(self) -> str:
        """See ``LetterStore``."""
        return self._store.where

    @property
    def damages(self) -> Sequence[DamagedLine]:
        """See ``LetterStore``."""
        return self._store.damages

    async def still_answers(self) -> bool:
        """See ``LetterStore``."""
        return await self._store.still_answers()

    async def latest(self, selection: Selection, limit: int) -> LetterPage:
        """See ``LetterStore``."""
        page = await self._store.latest(selection, limit)
        return LetterPage(tuple(decoded_entry(one, self._codec) for one in page.entries), page.count)

    async def each(self, selection: Selection) -> AsyncIterator[Sequence[LetterEntry]]:
        """See ``LetterStore``."""
        async for entries in self._store.each(selection):
            yield [decoded_entry(one, self._codec) for one in entries]

    async def groups(self, selection: Selection) -> list[LetterGroup]:
        """See ``LetterStore``."""
        return await self._store.groups(selection)

    async def statistics(self, selection: Selection) -> Statistics:
        """See ``LetterStore``."""
        return await self._store.statistics(selection)

    async def blocking(self, selection: Selection) -> int:
        """See ``LetterStore``."""
        return await self._store.blocking(selection)

    async def change(
        self, selection: Selection, what: What, detail: str, by: str, *, followers_go: bool = False
    ) -> int:
        """See ``LetterStore``."""
        return await self._store.change(selection, what, detail, by, followers_go=followers_go)

    async def history(self, letter_ids: Sequence[str]) -> Mapping[str, Sequence[Record]]:
        """See ``LetterStore``."""
        known = await self._store.history(letter_ids)
        return {one: [decoded_record(record, self._codec) for record in records] for one, records in known.items()}

    async def plan(self, selection: Selection, limit: int) -> Plan:
        """See ``LetterStore``."""
        return await self._store.plan(selection, limit)

    def replaying(
        self, selection: Selection, limit: int, about: str, takes: frozenset[Status] | None = None
    ) -> AbstractAsyncContextManager[TakenLetters]:
        """See ``LetterStore``."""
        return self._replaying(selection, limit, about, takes)

    @contextlib.asynccontextmanager
    async def _replaying(
        self, selection: Selection, limit: int, about: str, takes: frozenset[Status] | None
    ) -> AsyncIterator[TakenLetters]:
        async with self._store.replaying(selection, limit, about, takes) as taken:
            yield _DecodedTaken(taken, self._codec)


class _DecodedTaken:
    """``TakenLetters``, decoded."""

    def __init__(self, taken: TakenLetters, codec: EventCodec) -> None:
        self._taken = taken
        self._codec = codec

    @property
    def elsewhere(self) -> int:
        """See ``TakenLetters``."""
        return self._taken.elsewhere

    @elsewhere.setter
    def elsewhere(self, count: int) -> None:
        self._taken.elsewhere = count

    @property
    def unreadable(self) -> int:
        """See ``TakenLetters``."""
        return self._taken.unreadable

    @unreadable.setter
    def unreadable(self, count: int) -> None:
        self._taken.unreadable = count

    async def take(self, most: int) -> Sequence[LetterEntry]:
        """See ``TakenLetters``."""
        return [decoded_entry(one, self._codec) for one in await self._taken.take(most)]

    async def record(self, records: Sequence[Record]) -> int:
        """See ``TakenLetters``."""
        return await self._taken.record([encoded_record(one, self._codec) for one in records])

    async def free(self, letter_ids: Sequence[str]) -> None:
        """See ``TakenLetters``."""
        await self._taken.free(letter_ids)
