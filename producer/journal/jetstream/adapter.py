"""The journal in a JetStream stream, for any number of producers behind one address. See ``Journal``.

A number is a sequence number of the stream. Entries are stored in batches, each whole or not at all, and only if the
stream ends where the writer believes. So numbers have no hole, each entry has one cursor everywhere, and a stream that
was restored from a backup is noticed before anything is added to it.

The server knows ids again for the time of its window. Beyond it, an event that is published again is accepted again,
and ends as a duplicate of its row.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from unlost.ops.kit.telemetry.mask import masked
from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.groups import KEEP_NOTHING, Group, RetentionLimits
from unlost.producer.journal.jetstream.appending import Appender
from unlost.producer.journal.jetstream.connection import LIBRARY_ERRORS, ApiAnswer, RequestRefused, in_doubt
from unlost.producer.journal.jetstream.following import announce, follow
from unlost.producer.journal.jetstream.lookup import number_of
from unlost.producer.journal.jetstream.messages import bucket_of, id_key
from unlost.producer.journal.jetstream.retention import last_to_drop
from unlost.producer.journal.jetstream.session import JournalSession
from unlost.producer.journal.jetstream.state import State, with_groups
from unlost.producer.journal.jetstream.streams import Unfit
from unlost.producer.journal.known import Plain, as_it_is
from unlost.producer.journal.loop_thread import LoopThread
from unlost.producer.journal.nats_address import JetStreamAddress, read_address
from unlost.producer.journal.port import READ_BYTES, Entry, HistoryLost, JournalError, JournalStats, Written
from unlost.producer.journal.publications import DIGEST_BYTES, Publications
from unlost.producer.journal.starting import START_ATTEMPTS, START_DELAY, open_patiently
from unlost.producer.journal.timelines import Timelines

T = TypeVar("T")
WRITTEN = "written"
UNKNOWN_DIGEST = bytes(DIGEST_BYTES)
"""Of an entry that retention has taken. An empty one would say that it is damaged."""


class JetStreamJournal:
    """See ``Journal``."""

    def __init__(
        self,
        url: str,
        *,
        largest_body: int = 0,
        attempts: int = START_ATTEMPTS,
        delay: float = START_DELAY,
        plain: Plain = as_it_is,
    ) -> None:
        """``largest_body``: the bytes that the largest event may have. ``plain``: how bodies are compared."""
        self._address: JetStreamAddress = read_address(url)
        self._loop = LoopThread("journal in JetStream")
        self._session = JournalSession(self._address)
        self._appender = Appender(self._session, plain)
        self._name = secrets.token_hex(8)
        try:
            open_patiently(
                lambda: self._do("opened", lambda: self._session.open(largest_body)),
                attempts,
                delay,
                final=(HistoryLost, Unfit),
            )
        except BaseException:
            self.close()
            raise
        self.identity = self._session.identity
        self.timelines: Timelines = self._session.history.timelines

    @property
    def held(self) -> int:
        """See ``Journal``. As of this producer's last call."""
        return self._session.held

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        """See ``Journal``."""
        return self._do(WRITTEN, lambda: self._append(groups, at))

    async def _append(self, groups: Sequence[Publications], at: float) -> Written:
        before = self._session.history.newest.number
        try:
            written = await self._appender.append(groups, at)
        except BaseException:
            self._session.doubts = True
            raise
        if written.newest > before:
            await announce(self._session, self._name, written.newest)
        return written

    def append_at_once(self, groups: Sequence[Publications], at: float) -> Written | None:  # noqa: ARG002
        """See ``Journal``. The event loop would wait for the network, so it never does anything."""
        return None

    def follow(self, grew: Callable[[int], None]) -> bool:
        """See ``Journal``."""
        self._loop.start(follow(self._session, self._name, grew))
        return True

    def checkpoint(self) -> None:
        """See ``Journal``. The server does that by itself."""

    def probe(self, at: float) -> None:
        """See ``Journal``. The leader of the events must answer, and the state be stored."""
        self._do(WRITTEN, lambda: self._probe(at))

    async def _probe(self, at: float) -> None:
        async with self._session.lock:
            await self._session.learn()
        await self._session.state.change(lambda state: msgspec.structs.replace(state, probed_at=at))

    def probed_at(self) -> float | None:
        """See ``Journal``."""
        return self._do("read", self._session.state.read).probed_at

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """See ``Journal``."""
        return self._do("read", lambda: self._read(after, limit, max_bytes))

    async def _read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        session = self._session
        number = max(after, session.before) + 1
        entries = await session.many.entries(number, limit, max_bytes)
        if not entries:
            entries = await self._next_after(after, limit)
        if entries and entries[-1].number > session.history.newest.number:
            async with session.lock:
                await session.learn()  # the timelines of what others have stored
        return entries

    async def _next_after(self, after: int, limit: int) -> list[Entry]:
        """The next entry as the leader has it; a number without an entry was lost, or retention has taken it."""
        session = self._session
        async with session.lock:
            await session.current()
        number, newest = max(after, session.before) + 1, session.history.newest.number
        if number > newest or limit < 1:
            return []
        found, one = await session.reader.next(number)
        if found == number:
            return [one.entry if one else unreadable(number)]
        end = min(found or newest + 1, number + limit)
        return [unreadable(lost) for lost in range(number, end)]

    def first(self, event_id: str) -> Entry | None:
        """See ``Journal``. An id that the server's window has forgotten is looked for in a part of all entries."""
        return self._do("read", lambda: self._first(event_id))

    async def _first(self, event_id: str) -> Entry | None:
        session, key = self._session, id_key(event_id)
        number = await number_of(session.connection, self._address.stream, key)
        if number is None:
            return await session.many.named(event_id, bucket_of(key), session.before + 1)
        one = await session.reader.one(number)
        if one is None:
            return Entry(number, event_id, UNKNOWN_DIGEST, b"", 0.0)
        return one.entry if number > session.before else msgspec.structs.replace(one.entry, body=b"")

    def bounds(self) -> tuple[int, int]:
        """See ``Journal``."""
        return self._do("read", self._bounds)

    async def _bounds(self) -> tuple[int, int]:
        async with self._session.lock:
            await self._session.current()
            return self._session.before, self._session.history.newest.number

    def stats(self) -> JournalStats:
        """See ``Journal``."""
        return self._do("read", self._stats)

    async def _stats(self) -> JournalStats:
        async with self._session.lock:
            _, state = await self._session.current()
            before, newest = self._session.before, self._session.history.newest.number
            return JournalStats(newest - before, self._session.held, before + 1, newest, state.dropped_unread)

    def retire(
        self, *, older_than: float, max_bytes: int, chunk: int = 5_000, keep: RetentionLimits = KEEP_NOTHING
    ) -> int:
        """See ``Journal``. Both limits remove entries; the server's window alone decides how long ids are known."""
        return self._do("pruned", lambda: self._retire(older_than, max_bytes, chunk, keep))

    async def _retire(self, older_than: float, max_bytes: int, chunk: int, keep: RetentionLimits) -> int:
        session = self._session
        async with session.lock:
            info, _ = await session.current()
            before, newest = session.before, session.history.newest
        last = await last_to_drop(
            session.reader, before, newest.number, chunk, keep, older_than=older_than, total=newest.total - max_bytes
        )
        if last > before:
            one = await session.reader.one(last)
            total = one.total if one else newest.total
            unread = max(0, last - max(before, keep.read))
            await session.state.change(lambda state: _dropped(state, last, total, unread))
        if max(last, before) > info.state.first_seq:  # also what an interrupted retention has left
            purge = {"seq": max(last, before)}
            await session.connection.api(f"STREAM.PURGE.{self._address.stream}", purge, ApiAnswer)
        if last > before:
            async with session.lock:
                await session.current()
        return last - before

    def remember(self, reported: Sequence[Group]) -> list[Group]:
        """See ``Journal``."""
        changed = self._do(
            WRITTEN, lambda: self._session.state.change(lambda state: with_groups(state, list(reported)))
        )
        return list(changed.groups)

    def unread(self, after: int) -> tuple[int, int]:
        """See ``Journal``."""
        return self._do("read", lambda: self._unread(after))

    async def _unread(self, after: int) -> tuple[int, int]:
        session = self._session
        newest, after = session.history.newest, max(after, session.before)
        one = await session.reader.one(after) if after > session.before else None
        return max(0, newest.number - after), max(0, newest.total - (one.total if one else session.total_before))

    def close(self) -> None:
        """See ``Journal``."""
        if not self._loop.is_closed:
            self._loop.run(self._session.close())
        self._loop.close()

    def _do(self, what: str, use: Callable[[], Awaitable[T]]) -> T:
        async def called() -> T:
            return await use()

        try:
            return self._loop.run(called())
        except (*LIBRARY_ERRORS, RequestRefused) as error:
            reason = masked(str(error)) or type(error).__name__
            doubt = "; if it was is in doubt, so publish again with the same ids" if in_doubt(error) else ""
            where = f"the journal in JetStream at {self._address.shown}"
            raise JournalError(f"{where} cannot be {what}: {reason}{doubt if what == WRITTEN else ''}") from error


def _dropped(state: State, last: int, total: int, unread: int) -> State:
    if last <= state.dropped:  # another producer was faster
        return state
    return msgspec.structs.replace(state, dropped=last, total=total, dropped_unread=state.dropped_unread + unread)
