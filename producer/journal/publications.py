"""What a journal is given: publications, each by itself or many in one piece.

What comes as lines of one text is placed as it came, without an object for each. A journal that can, takes the text;
the index tells where each line begins, what its id is, and its digest. For all others it is a collection of
publications.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby, repeat
from struct import iter_unpack
from typing import cast

import msgspec

DIGEST_BYTES = 32
LINE_END = b"\n"
DIGITS = 10
PLACE = b"%%0%dd" % DIGITS
"""Decimal, since SQL reads no binary numbers, and always as wide."""
PIECE_BYTES = 16 * 1024 * 1024
"""A piece of this size takes no more: it is copied, and SQLite holds no text of a billion bytes."""


class Publication(msgspec.Struct, frozen=True, gc=False):
    """An event that shall get its place. ``redeliver`` sends a known one once more."""

    event_id: str
    digest: bytes
    body: bytes
    redeliver: bool = False


class Index(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of the lines of a text, for all of them in one piece each."""

    ids: str
    """A JSON array."""
    digests: bytes
    places: bytes
    """How many bytes of lines, their ends apart, stand before each, and before one more."""

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_BYTES

    def fits(self, text: bytes, count: int) -> bool:
        """Whether it can be the index of this text of so many lines."""
        lengths = len(self.digests), len(self.places)
        if lengths != (DIGEST_BYTES * count, DIGITS * (count + 1)) or not self.places.isdigit():
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
        """Of each line."""
        ids: list[str] = msgspec.json.decode(self.index.ids)
        return ids

    def digest(self, line: int) -> bytes:
        """Of one of them."""
        return self.index.digests[DIGEST_BYTES * line : DIGEST_BYTES * (line + 1)]

    def body(self, line: int) -> bytes:
        """One of them."""
        start, end = (int(self.index.places[place : place + DIGITS]) for place in (DIGITS * line, DIGITS * (line + 1)))
        return self.text[start + line : end + line]

    @property
    def size(self) -> int:
        """Bytes of all bodies."""
        return len(self.text) - (len(self) - 1) * len(LINE_END)


Group = Sequence[Publication] | Lines
"""Publications that came together."""


def lines_of(publications: Sequence[Publication]) -> Lines:
    """These in one piece; of all or of none ``redeliver`` is asked."""
    bodies = [one.body for one in publications]
    index = index_of([one.event_id for one in publications], [one.digest for one in publications], bodies)
    return Lines(LINE_END.join(bodies), index, publications[0].redeliver)


def in_pieces(groups: Sequence[Group]) -> Iterator[Lines]:
    """These in few pieces, in their order."""
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


def ids_of(group: Group) -> list[str]:
    """Of each of these."""
    return group.ids() if isinstance(group, Lines) else [one.event_id for one in group]


def index_of(ids: Sequence[str], digests: Sequence[bytes], lines: Sequence[bytes]) -> Index:
    """Of lines that stand in a text with one line end between each two; ``ValueError`` where it would be none."""
    joined = b"".join(digests)
    if not len(ids) == len(lines) == len(joined) / DIGEST_BYTES:
        raise ValueError(f"{len(lines):,} lines with {len(ids):,} ids have {len(joined):,} bytes of digests")
    places = tuple(accumulate(map(len, lines), initial=0))
    return Index(msgspec.json.encode(ids).decode(), joined, PLACE * len(places) % places)
