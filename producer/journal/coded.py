"""A journal whose bodies a codec encodes. Digests, and everything above and below, are as without it.

A body is the coded content alone: no published event looks so, since each has an id. An entry whose subject was erased
is sent without content, so that each listener writes a letter that says so. While a key is missing, reading fails: an
event that can be read later must not be skipped.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from unlost.listener.core.codec import EventCodec, KeyMissing, SubjectErased, Unreadable
from unlost.listener.core.event import erased_frame
from unlost.producer.journal.damage import ERASED
from unlost.producer.journal.groups import KEEP_NOTHING, Group, RetentionLimits
from unlost.producer.journal.port import READ_BYTES, Entry, Journal, JournalError, JournalStats, Written
from unlost.producer.journal.publications import Publication, Publications


class _Coded(msgspec.Struct):
    unlost: Literal["enc"]
    event_id: str | UnsetType = UNSET


_coded = msgspec.json.Decoder(_Coded)


def is_coded_body(body: bytes) -> bool:
    """Whether a body is encoded."""
    if b'"unlost"' not in body:
        return False
    try:
        return _coded.decode(body).event_id is UNSET
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return False


def plain_body(codec: EventCodec) -> Callable[[str, bytes], bytes]:
    """Return what decodes a body to compare it with another; one that is unreadable equals none."""

    def plain(event_id: str, body: bytes) -> bytes:
        try:
            return codec.decode(body, event_id=event_id) if is_coded_body(body) else body
        except Unreadable:
            return b""

    return plain


def refuse_encoded(journal: Journal) -> None:
    """Raise ``JournalError`` if the newest entry is encoded: without its codec, no entry could be sent."""
    _, newest = journal.bounds()
    if any(is_coded_body(one.body) for one in journal.read(max(0, newest - 1), 1)):
        raise JournalError("the journal holds encrypted events: set CODEC and CODEC_KEYS as before")


class CodedJournal:
    """See ``Journal``."""

    def __init__(self, journal: Journal, codec: EventCodec) -> None:
        """``journal`` must compare bodies by ``plain_body``."""
        self._journal = journal
        self._codec = codec
        self.identity = journal.identity
        self.timelines = journal.timelines

    @property
    def held(self) -> int:
        """See ``Journal``."""
        return self._journal.held

    def append(self, groups: Sequence[Publications], at: float) -> Written:
        """See ``Journal``."""
        return self._decoded(self._journal.append([self._encoded(group) for group in groups], at))

    def append_at_once(self, groups: Sequence[Publications], at: float) -> Written | None:
        """See ``Journal``."""
        written = self._journal.append_at_once([self._encoded(group) for group in groups], at)
        return None if written is None else self._decoded(written)

    def _encoded(self, group: Publications) -> list[Publication]:
        encode = self._codec.encode_body
        return [Publication(one.event_id, one.digest, encode(one.event_id, one.body), one.redeliver) for one in group]

    def _decoded(self, written: Written) -> Written:
        """Decode what was written only if somebody reads it, which live clients do at once."""
        return Written(written.placed, written.newest, self._plain(written.entries))

    def _plain(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for one in entries:
            if one.is_whole is False or not is_coded_body(one.body):
                yield one
                continue
            try:
                body = self._codec.decode(one.body, event_id=one.event_id)
            except SubjectErased as error:
                yield Entry(one.number, one.event_id, ERASED, erased_frame(one.event_id, str(error)), one.at)
            except KeyMissing as error:
                raise JournalError(f"entry {one.number} of the journal cannot be read: {error}") from None
            except Unreadable:  # damaged before it was stored, or encoded by another key of the same name
                yield msgspec.structs.replace(one, is_whole=False)
            else:
                yield Entry(one.number, one.event_id, one.digest, body, one.at, one.is_whole)

    def follow(self, grew: Callable[[int], None]) -> bool:
        """See ``Journal``."""
        return self._journal.follow(grew)

    def checkpoint(self) -> None:
        """See ``Journal``."""
        self._journal.checkpoint()

    def probe(self, at: float) -> None:
        """See ``Journal``."""
        self._journal.probe(at)

    def probed_at(self) -> float | None:
        """See ``Journal``."""
        return self._journal.probed_at()

    def read(self, after: int, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """See ``Journal``."""
        return list(self._plain(self._journal.read(after, limit, max_bytes)))

    def first(self, event_id: str) -> Entry | None:
        """See ``Journal``."""
        found = self._journal.first(event_id)
        return None if found is None else next(self._plain((found,)))

    def bounds(self) -> tuple[int, int]:
        """See ``Journal``."""
        return self._journal.bounds()

    def stats(self) -> JournalStats:
        """See ``Journal``."""
        return self._journal.stats()

    def retire(self, *, older_than: float, max_bytes: int, chunk: int, keep: RetentionLimits = KEEP_NOTHING) -> int:
        """See ``Journal``."""
        return self._journal.retire(older_than=older_than, max_bytes=max_bytes, chunk=chunk, keep=keep)

    def remember(self, reported: Sequence[Group]) -> list[Group]:
        """See ``Journal``."""
        return self._journal.remember(reported)

    def unread(self, after: int) -> tuple[int, int]:
        """See ``Journal``."""
        return self._journal.unread(after)

    def close(self) -> None:
        """See ``Journal``."""
        self._journal.close()
