"""A checksum for each entry of a journal: it shows what a disk changed, at a third of what its digest costs. Pure.

It covers the entry's number, too: one changed bit of it would put the entry in the place of another.
"""

import struct
from collections.abc import Iterable, Sequence
from zlib import crc32

SIZE = 4
"""Bytes of one checksum."""
_LOW = 0xFFFFFFFF


def content_sums(ids: Iterable[str], digests: Iterable[bytes], bodies: Sequence[bytes]) -> bytes:
    """The CRC-32 of each id, digest and body, one after another. The numbers may not be known yet."""
    each = map(crc32, bodies, map(crc32, digests, map(crc32, map(str.encode, ids))))
    return struct.pack(f">{len(bodies)}I", *each)


def numbered_sums(content: bytes, numbers: Sequence[int]) -> bytes:
    """The checksums of entries with these content sums and numbers."""
    low = numbers if numbers and min(numbers) >= 0 and max(numbers) <= _LOW else [number & _LOW for number in numbers]
    mixed = int.from_bytes(content) ^ int.from_bytes(struct.pack(f">{len(numbers)}I", *low))
    return mixed.to_bytes(len(content))


def checksum_of(number: int, event_id: str, digest: bytes, body: bytes) -> bytes:
    """The checksum of one entry."""
    return numbered_sums(content_sums((event_id,), (digest,), (body,)), (number,))
