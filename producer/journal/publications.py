"""The input of a journal: publications, one object each, or many as one text.

The lines of one text are stored as they arrived, without an object for each. An index has the start, the id and the
digest of each line. A journal that supports this takes the text; to any other it is a collection of
publications.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby, repeat
from struct import iter_unpack
from typing import cast

import msgspec

from unlost.producer.journal import checksums

DIGEST_BYTES = 32
LINE_END = b"\n"
DIGITS = 10
PLACE = b"%%0%dd" % DIGITS
"""Decimal and of fixed width, because SQL cannot read binary numbers."""
PIECE_BYTES = 16 * 1024 * 1024
"""A piece of this size takes no further lines: joining copies it, and SQLite holds no text of a billion bytes."""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """An event to store. ``redeliver`` sends it once more if its id is known."""

    event_id: str
    digest: bytes
    body: bytes
    redeliver: bool = False


class Index(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Ids, digests and positions of the lines of a text. Each field holds the values of all lines in one piece."""

    ids: str
    """A JSON array."""
    digests: bytes
    places: bytes
    """For each line, the bytes of all lines before it, without line ends. One more value at the end gives the total."""
    sums: bytes
    """The content sums of all lines (``checksums.py``)."""

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def fits(self, text: bytes, count: int) -> bool:
        """Whether this can be the index of this text with ``count`` lines. It may come from another process."""
        lengths = len(self.digests), len(self.places), len(self.sums)
        wanted = DIGEST_BYTES * count, DIGITS * (count + 1), checksums.SIZE * count
        if lengths != wanted or not self.places.isdigit():
            return False
        return int(self.places[-DIGITS:]) == len(text) - (count - 1) * len(LINE_END)


class Lines(msgspec.Struct, frozen=True, gc=False):
    """Publications whose bodies are the lines of ``text``."""

    text: bytes
    index: Index
    redeliver: bool = False

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Publication]:
        digests = [digest for (digest,) in iter_unpack(f"{DIGEST_BYTES}s", self.index.digests)]
        return map(Publication, self.ids(), digests, self.text.split(LINE_END), repeat(self.redeliver))

    def ids(self) -> list[str]:
        """The id of each line."""
        ids: list[str] = msgspec.json.decode(self.index.ids)
        return ids

    def digest(self, line: int) -> bytes:
        """The digest of one line."""
        return self.index.digests[DIGEST_BYTES * line : DIGEST_BYTES * (line + 1)]

    def body(self, line: int) -> bytes:
        """The text of one line."""
        start, end = (int(self.index.places[place : place + DIGITS]) for place in (DIGITS * line, DIGITS * (line + 1)))
        return self.text[start + line : end + line]

    @property
    def size(self) -> int:
        """Total bytes of all bodies."""
        return len(self.text) - (len(self) - 1) * len(LINE_END)


Publications = Sequence[Publication] | Lines
"""Publications that arrived together."""


def lines_of(publications: Sequence[Publication]) -> Lines:
    """Join these publications into one text. ``redeliver`` must be the same for all."""
    bodies = [one.body for one in publications]
    index = index_of([one.event_id for one in publications], [one.digest for one in publications], bodies)
    return Lines(LINE_END.join(bodies), index, publications[0].redeliver)


def in_pieces(groups: Sequence[Publications]) -> Iterator[Lines]:
    """Join the groups into few texts, in order."""
    for are_lines, some in groupby(groups, lambda group: isinstance(group, Lines)):
        if are_lines:
            yield from cast("Iterator[Lines]", some)
        else:
            for _, alike in groupby(chain.from_iterable(some), lambda one: one.redeliver):
                yield from map(lines_of, _in_parts(alike))


def _in_parts(publications: Iterable[Publication]) -> Iterator[list[Publication]]:
    part: list[Publication] = []
    size = 0
    for one in publications:
        part.append(one)
        size += len(one.body)
        if size >= PIECE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def ids_of(group: Publications) -> list[str]:
    """The ids of these publications."""
    return group.ids() if isinstance(group, Lines) else [one.event_id for one in group]


def index_of(ids: Sequence[str], digests: Sequence[bytes], lines: Sequence[bytes]) -> Index:
    """The index of lines that a text holds with one line end between each two.

    ``ValueError`` if the numbers of ids, digests and lines differ.
    """
    joined = b"".join(digests)
    if not len(ids) == len(lines) == len(joined) / DIGEST_BYTES:
        raise ValueError(f"{len(lines):,} lines with {len(ids):,} ids have {len(joined):,} bytes of digests")
    places = tuple(accumulate(map(len, lines), initial=0))
    sums = checksums.content_sums(ids, digests, lines)
    return Index(msgspec.json.encode(ids).decode(), joined, PLACE * len(places) % places, sums)
