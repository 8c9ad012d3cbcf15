"""The reading process: checks and hashes the lines of large batches on another core than the one that places them.

It is asked over its standard input and answers over its standard output, in order; before each message stands its size.
It begins with an empty message, keeps nothing between two questions, and ends when its input does.
"""

import gc
import struct
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from listener.event import plain_ids

SIZE = struct.Struct("!I")
DIGEST_BYTES = 32
NEAR = 256
"""So many lines, decoded, stay in a cache that is near; with 2,048 at once each costs a quarter more."""


class Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The ids of lines, and their digests one after another."""

    ids: list[str]
    digests: bytes


def answer_until_the_end(asked: BinaryIO, told: BinaryIO) -> None:
    """A question is lines with line ends between them; its answer is empty where one of them needs care."""
    encode = msgspec.msgpack.Encoder().encode
    told.write(SIZE.pack(0))
    told.flush()
    while len(size := asked.read(SIZE.size)) == SIZE.size:
        whole = asked.read(SIZE.unpack(size)[0])
        found = _found(whole.split(b"\n"))
        answer = b"" if found is None else encode(found)
        told.write(SIZE.pack(len(answer)) + answer)
        told.flush()


def _found(lines: Sequence[bytes]) -> Found | None:
    ids: list[str] = []
    digests: list[bytes] = []
    for first in range(0, len(lines), NEAR):
        some = lines[first : first + NEAR]
        plain = plain_ids(some, b"\n".join(some))
        if plain is None:
            return None
        ids += plain[0]
        digests += plain[1]
    return Found(ids, b"".join(digests))


def main() -> None:
    """The whole process."""
    gc.disable()  # nothing here can be part of a cycle
    with open(0, "rb") as asked, open(1, "wb") as told:
        answer_until_the_end(asked, told)


if __name__ == "__main__":
    main()
