"""Appends: publications become batches of messages, each stored whole or not at all, right after the newest entry.

Nearly all events are new, so the first attempt assumes it. If the server knows one of the ids, it refuses the batch and
stores nothing. The ids are then looked up, and what is new is one batch.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from unlost.producer.journal.entries import new_entries, some_entries
from unlost.producer.journal.jetstream.connection import KNOWN_IN_BATCH, WRONG_LAST, WRONG_LAST_TOO, RequestRefused
from unlost.producer.journal.jetstream.history import Newest
from unlost.producer.journal.jetstream.lookup import known_of
from unlost.producer.journal.jetstream.messages import Message, key_of, message_id, message_of
from unlost.producer.journal.jetstream.session import JournalSession
from unlost.producer.journal.known import FIRST, Plain, judge
from unlost.producer.journal.port import Accepted, Entry, JournalError, Placed, Written
from unlost.producer.journal.publications import Publication, Publications, lines_of

BATCH_EVENTS = 500
"""The server takes at most 1,000."""
BATCH_BYTES = 4 * 1024 * 1024
ATTEMPTS = 50
Keyed = tuple[Publication, bytes]
Part = tuple[Sequence[Placed], Iterable[Entry]]


class _Known(Exception):
    """The server knows one of the ids. Nothing was stored."""


class Appender:
    """Appends to the stream of one session."""

    def __init__(self, session: JournalSession, plain: Plain) -> None:
        self._session = session
        self._plain = plain
        self._met_known = False
        """The last batch contained known events, so the next one probably does, too."""

    async def append(self, groups: Sequence[Publications], at: float) -> Written:
        """See ``Journal``. If an error is raised, events of more than one batch may be stored in part."""
        some = [(one, key_of(one)) for one in chain.from_iterable(groups)]
        session = self._session
        async with session.lock:
            await session.settle_doubt()
            parts = [await self._placed(batch, at) for batch in _batches(some)]
            newest = session.history.newest.number
        if len(parts) == 1:
            return Written(parts[0][0], newest, parts[0][1])
        return Written(
            [one for placed, _ in parts for one in placed], newest, chain.from_iterable(new for _, new in parts)
        )

    async def _placed(self, batch: Sequence[Keyed], at: float) -> Part:
        for _ in range(ATTEMPTS):
            try:
                if not self._met_known:
                    return await self._place_new(batch, at)
                return await self._place_some(batch, at)
            except _Known:
                self._met_known = True
            except RequestRefused as refused:
                if refused.code not in (WRONG_LAST, WRONG_LAST_TOO):
                    raise
                await self._session.learn()
        raise JournalError("other producers write to the journal in JetStream all the time; nothing was accepted")

    async def _place_new(self, batch: Sequence[Keyed], at: float) -> Part:
        first = await self._store([(one, key, message_id(key)) for one, key in batch], at)
        timelines = self._session.history.timelines
        stem = timelines.cursor(first).removesuffix(str(first))
        entries = new_entries(first, [[one for one, _ in batch]], at)
        return Accepted(stem, range(first, first + len(batch))), entries

    async def _place_some(self, batch: Sequence[Keyed], at: float) -> Part:
        session = self._session
        lines, keys = lines_of([one for one, _ in batch]), {one.event_id: key for one, key in batch}
        found = await known_of(session.connection, session.reader, session.address.stream, keys)
        if any(number > session.history.newest.number for number, _ in found.values()):
            await session.learn()
        # An entry that retention has taken has no digest any more: it counts as the same event.
        own = {one.event_id: one.digest for one, _ in batch}
        known = {name: (number, one.entry.digest if one else own[name]) for name, (number, one) in found.items()}
        bodies = {number: one.entry.body for number, one in found.values() if one}
        history = session.history
        judged = judge(lines, known, history.newest.number, history.timelines.cursor, bodies.get, self._plain)
        few = [
            (one, key, message_id(key) if mark == FIRST else f"again {secrets.token_hex(12)}")
            for (one, key), number, mark in zip(batch, judged.numbers, judged.marks, strict=True)
            if number
        ]
        if few:
            await self._store(few, at)
        self._met_known = FIRST * len(lines) != judged.marks
        return judged.placed, some_entries([(lines, judged)], at)

    async def _store(self, some: Sequence[tuple[Publication, bytes, str]], at: float) -> int:
        """Store them right after the newest entry, and return the number of the first."""
        history, stream = self._session.history, self._session.address.stream
        timeline, begins = history.present
        total = history.newest.total
        messages: list[Message] = []
        for one, key, known_as in some:
            total += len(one.body)
            begins_here = begins and not messages
            messages.append(message_of(stream, one, key, known_as, timeline, begins=begins_here, total=total, at=at))
        before = history.newest.number
        try:
            ack = await self._session.connection.publish(messages, before)
        except RequestRefused as refused:
            if refused.code == KNOWN_IN_BATCH:
                raise _Known from None
            raise
        if ack.duplicate:
            raise _Known
        if ack.seq != before + len(messages):
            raise JournalError(f"JetStream stored number {ack.seq} after {before}, so this is in doubt; publish again")
        history.grew(Newest(ack.seq, total, messages[-1].mark))
        return before + 1


def _batches(some: Sequence[Keyed]) -> Iterator[list[Keyed]]:
    """Batches of one kind each: to send again what is known, or not."""
    batch: list[Keyed] = []
    size = 0
    for one in some:
        is_full = len(batch) == BATCH_EVENTS or size + len(one[0].body) > BATCH_BYTES
        if batch and (is_full or batch[0][0].redeliver != one[0].redeliver):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one[0].body)
    if batch:
        yield batch
