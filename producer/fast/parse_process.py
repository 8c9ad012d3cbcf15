"""The reading process: checks and hashes the lines of large batches on another core than the one that places them.

It is asked over its standard input and answers over its standard output, in order; before each message stands its size.
It begins with an empty message, keeps nothing between two questions, and ends when its input does.
"""

import gc
import struct
import sys
from typing import BinaryIO

import msgspec

from unlost.producer.publish.accept import plain_index

SIZE = struct.Struct("!I")


def answer_until_the_end(asked: BinaryIO, told: BinaryIO, *, max_bytes: int) -> None:
    """A question is the text of lines; its answer is their index, or empty where one of them needs care."""
    encode = msgspec.msgpack.Encoder().encode
    told.write(SIZE.pack(0))
    told.flush()
    while len(size := asked.read(SIZE.size)) == SIZE.size:
        index = plain_index(asked.read(SIZE.unpack(size)[0]), max_bytes=max_bytes)
        answer = b"" if index is None else encode(index)
        told.write(SIZE.pack(len(answer)) + answer)
        told.flush()


def main() -> None:
    """The whole process. Its one argument: how many bytes an event may have."""
    gc.disable()  # nothing here can be part of a cycle
    with open(0, "rb") as asked, open(1, "wb") as told:
        answer_until_the_end(asked, told, max_bytes=int(sys.argv[1]))


if __name__ == "__main__":
    main()
