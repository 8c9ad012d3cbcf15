"""Reads entries: one from the stream's leader, which lacks nothing, or many from any copy, which may lag."""

from collections.abc import Mapping
from typing import Any

import msgspec

from unlost.producer.journal.entries import unreadable
from unlost.producer.journal.jetstream.connection import NO_MESSAGE, ApiAnswer, JetStreamConnection, RequestRefused
from unlost.producer.journal.jetstream.messages import ANY, BEGINS, StoredMessage, mark_in, mark_in_text, stored
from unlost.producer.journal.port import Entry

HEADERS_ROOM = 512
"""About how many bytes the headers of a message take, beside its body."""
SCANNED_AT_ONCE = 256


class RawMessage(msgspec.Struct):
    """A message as the API returns it."""

    seq: int
    hdrs: bytes = b""
    data: bytes = b""


class Found(ApiAnswer):
    """The answer to a request for one message."""

    message: RawMessage = msgspec.field(default_factory=lambda: RawMessage(0))


class EntryReader:
    """Reads one stream."""

    def __init__(self, connection: JetStreamConnection, stream: str) -> None:
        self._connection = connection
        self._stream = stream

    async def message(self, request: Mapping[str, Any]) -> RawMessage | None:
        """One message from the leader, or None if there is none."""
        try:
            found = await self._connection.api(f"STREAM.MSG.GET.{self._stream}", request, Found)
        except RequestRefused as refused:
            if refused.code != NO_MESSAGE:
                raise
            return None
        return found.message

    async def one(self, number: int) -> StoredMessage | None:
        """The entry with this number; None if it is not there, or cannot be read."""
        found = await self.message({"seq": number})
        return None if found is None else _stored(found)

    async def next(self, number: int, subject: str = ANY) -> tuple[int, StoredMessage | None]:
        """The first message from this number on, with its number; 0 if there is none."""
        found = await self.message({"seq": number, "next_by_subj": f"{self._stream}.{subject}"})
        return (0, None) if found is None else (found.seq, _stored(found))

    async def beginnings(self, number: int) -> list[StoredMessage]:
        """The first entry of each timeline that begins from this number on."""
        found: list[StoredMessage] = []
        while True:
            number, one = await self.next(number, f"{BEGINS}.*")
            if not number:
                return found
            found += [one] if one else []
            number += 1

    async def entries(self, number: int, limit: int, max_bytes: int) -> list[Entry]:
        """Entries from this number on, without a hole, at most ``limit``, until their bodies reach ``max_bytes``.

        It may return fewer, and none if the copy that answered lags.
        """
        request = {"seq": number, "batch": limit, "max_bytes": max_bytes + limit * HEADERS_ROOM}
        entries: list[Entry] = []
        for message in await self._connection.several(self._stream, request):
            headers = message.headers or {}
            found = int(headers["Nats-Sequence"])
            if found != number:
                break
            one = stored(found, mark_in(headers), message.data)
            entries.append(one.entry if one else unreadable(found))
            number += 1
            max_bytes -= len(message.data)
            if max_bytes <= 0:
                break
        return entries

    async def named(self, event_id: str, bucket: str, number: int) -> Entry | None:
        """The first entry with this id, from this number on. It reads every entry of its bucket before it."""
        while True:
            request = {"seq": number, "batch": SCANNED_AT_ONCE, "next_by_subj": f"{self._stream}.*.{bucket}"}
            messages = await self._connection.several(self._stream, request)
            for message in messages:
                headers = message.headers or {}
                number = int(headers["Nats-Sequence"]) + 1
                one = stored(number - 1, mark_in(headers), message.data)
                if one is not None and one.entry.event_id == event_id:
                    return one.entry
            if not messages:
                return None

    async def holding(self, mark: bytes) -> int:
        """Count the messages that hold this mark. Reads all."""
        number = count = 0
        while True:
            request = {"seq": number + 1, "batch": SCANNED_AT_ONCE, "next_by_subj": f"{self._stream}.{ANY}"}
            messages = await self._connection.several(self._stream, request)
            if not messages:
                return count
            count += sum(mark in message.data for message in messages)
            number = int((messages[-1].headers or {})["Nats-Sequence"])


def _stored(message: RawMessage) -> StoredMessage | None:
    return stored(message.seq, mark_in_text(message.hdrs), message.data)
