"""A journal in JetStream that is moved, or made of another. See ``MovableJournal``.

The mark stands in the metadata of the stream. A journal that has moved also has no subject of its own any more, so the
server itself refuses whatever a producer sends.
"""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from unlost.ops.kit.telemetry.mask import masked
from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.jetstream.connection import (
    CALL_SECONDS,
    KNOWN_IN_BATCH,
    LIBRARY_ERRORS,
    NO_STREAM,
    ApiAnswer,
    JetStreamConnection,
    RequestRefused,
)
from unlost.producer.journal.jetstream.history import base_of, timelines_of
from unlost.producer.journal.jetstream.lookup import number_of
from unlost.producer.journal.jetstream.messages import ID, Message, id_key, message_id, message_of, subjects_of
from unlost.producer.journal.jetstream.reading import EntryReader
from unlost.producer.journal.jetstream.state import State, StateKept, within
from unlost.producer.journal.jetstream.streams import (
    OTHER,
    STATE,
    StreamInfo,
    check_server,
    check_streams,
    check_sync,
    events_config,
    info_of,
    made,
    state_config,
)
from unlost.producer.journal.loop_thread import LoopThread
from unlost.producer.journal.moves import BATCH_BYTES, BATCH_ROWS, History, Mark, Row, row_of
from unlost.producer.journal.nats_address import read_address
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.publications import Publication

T = TypeVar("T")
SETTLE_SECONDS = CALL_SECONDS + 1.0
"""A server may store what it had received before the mark. After this time nobody waits for its answer any more: the
producer has reported the event as in doubt, and whoever published it does so again."""


class MovableStream:
    """See the module."""

    keeps_ids = False
    settle = SETTLE_SECONDS

    def __init__(self, url: str) -> None:
        self._address = read_address(url)
        self.where = self._address.shown
        self._loop = LoopThread("journal in JetStream")
        self._connection = JetStreamConnection(self._address, "unlost journal")
        self._reader = EntryReader(self._connection, self._address.stream)

    def history(self) -> History | None:
        """See ``MovableJournal``."""
        return self._do("read", self._history)

    async def _history(self) -> History | None:
        try:
            info = await info_of(self._connection, self._address.stream)
        except RequestRefused as refused:
            if refused.code != NO_STREAM:
                raise
            return None
        if not info.identity:
            raise JournalError(f"{self.where} is no stream of an Unlost producer")
        first, last = info.state.first_seq, info.state.last_seq
        state = within(await self._state(info).read(), last)
        before = max(first - 1, state.dropped)
        _, oldest = await self._reader.next(1)
        beginnings = await self._reader.beginnings(1)
        return History(
            identity=info.identity,
            before_ids=before,
            before=before,
            newest=last,
            timelines=tuple(timelines_of(base_of(info.identity, first), state.copied, oldest, beginnings)),
            groups=state.groups,
            dropped_unread=state.dropped_unread,
            probed_at=state.probed_at,
            mark=info.mark,
        )

    def _state(self, info: StreamInfo) -> StateKept:
        return StateKept(self._connection, self._address.stream, info.identity)

    def rows(self, after: int, history: History) -> list[Row]:
        """See ``MovableJournal``."""
        return self._do("read", lambda: self._rows(after + 1, history))

    async def _rows(self, number: int, history: History) -> list[Row]:
        entries = await self._reader.entries(number, BATCH_ROWS, BATCH_BYTES)
        if not entries:  # the copy that answered lags, or the entry is gone
            found, one = await self._reader.next(number)
            if found == number:
                entries = [one.entry if one else unreadable(number)]
            elif (await info_of(self._connection, self._address.stream)).state.first_seq > number:
                return []
            else:
                end = min(found or history.newest + 1, number + BATCH_ROWS)
                entries = [unreadable(lost) for lost in range(number, end)]
        return [row_of(one) for one in entries]

    def mark(self, mark: Mark) -> None:
        """See ``MovableJournal``."""
        self._do("marked", lambda: self._put_mark(mark))

    async def _put_mark(self, mark: Mark | None) -> None:
        stream = self._address.stream
        info = await info_of(self._connection, stream)
        if info.mark == mark:
            return
        metadata = {name: value for name, value in info.metadata.items() if name not in (STATE, OTHER)}
        if mark is not None:
            metadata |= {STATE: mark.state, OTHER: mark.other}
        has_moved = mark is not None and mark.state == "moved"
        subjects = [f"{stream}.moved"] if has_moved else subjects_of(stream)
        config = info.config | {"metadata": metadata, "subjects": subjects}
        await self._connection.api(f"STREAM.UPDATE.{stream}", config, StreamInfo)

    def begin(self, identity: str, before: int, mark: Mark) -> None:
        """See ``MovableJournal``."""
        self._do("made", lambda: self._begin(identity, before, mark))

    async def _begin(self, identity: str, before: int, mark: Mark) -> None:
        connection, address = self._connection, self._address
        await check_sync(address)
        await check_server(connection, 0)
        state = await made(connection, address, state_config(address))
        with suppress(RequestRefused):
            await connection.api(f"STREAM.DELETE.{address.stream}", None, ApiAnswer)
        config = events_config(address, identity)
        config["metadata"] |= {STATE: mark.state, OTHER: mark.other}
        events = await made(connection, address, config | {"first_seq": before + 1})
        check_streams(events, state, address)

    def place(self, rows: Sequence[Row], history: History) -> None:
        """See ``MovableJournal``."""
        self._do("written", lambda: self._place(rows, history))

    async def _place(self, rows: Sequence[Row], history: History) -> None:
        before = rows[0].number - 1
        last = await self._reader.one(before) if before else None
        messages = self._messages(rows, history, 0 if last is None else last.total)
        young = time.time() - self._address.window
        ids = {row.number: message_id(id_key(row.event_id)) for row in rows if row.at >= young}
        try:
            await self._publish(messages, ids, before)
        except RequestRefused as refused:
            if refused.code != KNOWN_IN_BATCH:
                raise
            await self._publish(messages, await self._unknown(rows, ids), before)

    async def _publish(self, messages: Sequence[tuple[int, Message]], ids: dict[int, str], before: int) -> None:
        """Store them. The server knows those ids again for its window; an id that it knows already is refused."""
        named = [_named(message, ids.get(number)) for number, message in messages]
        ack = await self._connection.publish(named, before)
        if ack.duplicate:
            await self._connection.publish([_named(message, None) for _, message in messages], before)

    async def _unknown(self, rows: Sequence[Row], ids: dict[int, str]) -> dict[int, str]:
        """The ids that the server does not know, each for the first entry that has it."""
        stream = self._address.stream
        some = {row.number: id_key(row.event_id) for row in rows if row.number in ids}
        known = await asyncio.gather(*(number_of(self._connection, stream, key) for key in some.values()))
        met = Counter[str]()
        unknown: dict[int, str] = {}
        for number, found in zip(some, known, strict=True):
            if found is None and not met[ids[number]]:
                unknown[number] = ids[number]
            met[ids[number]] += 1
        return unknown

    def _messages(self, rows: Sequence[Row], history: History, total: int) -> list[tuple[int, Message]]:
        firsts = [one.first for one in history.timelines]
        messages: list[tuple[int, Message]] = []
        for row in rows:
            timeline = history.timelines[max(0, bisect_right(firsts, row.number) - 1)]
            one = Publication(row.event_id, row.digest, row.body or b"")
            total += len(one.body)
            message = message_of(
                self._address.stream, one, id_key(row.event_id), "", timeline, begins=False, total=total, at=row.at
            )
            messages.append((row.number, message))
        return messages

    def finish(self, history: History) -> None:
        """See ``MovableJournal``."""
        self._do("opened for producers", lambda: self._finish(history))

    async def _finish(self, history: History) -> None:
        info = await info_of(self._connection, self._address.stream)

        def taken_over(state: State) -> State:
            return msgspec.structs.replace(
                state, groups=history.groups, dropped_unread=history.dropped_unread, probed_at=history.probed_at,
                copied=history.timelines,
            )  # fmt: skip

        await self._state(info).change(taken_over)
        await self._put_mark(None)

    def close(self) -> None:
        """Leave the server."""
        self._loop.run(self._connection.close())
        self._loop.close()

    def _do(self, what: str, use: Callable[[], Awaitable[T]]) -> T:
        async def called() -> T:
            return await use()

        try:
            return self._loop.run(called())
        except (*LIBRARY_ERRORS, RequestRefused) as error:
            reason = masked(str(error)) or type(error).__name__
            raise JournalError(f"the journal in JetStream at {self.where} cannot be {what}: {reason}") from error


def _named(message: Message, known_as: str | None) -> Message:
    """The message with the id by which the server knows it again, or without any."""
    headers = {name: value for name, value in message.headers.items() if name != ID}
    return msgspec.structs.replace(message, headers=headers | ({ID: known_as} if known_as else {}))
