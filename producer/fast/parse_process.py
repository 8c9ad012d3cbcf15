"""The parse process: checks and hashes the lines of large batches on another core than the journal's writer.

It reads questions from standard input and writes answers to standard output, in order. Each message is preceded by its
size. Its first message is empty and shows that it has started. It keeps no state between two questions, and ends when
its input ends.
"""

import gc
import struct
import sys
from typing import BinaryIO

import msgspec

from unlost.producer.publish.accept import plain_index

SIZE = struct.Struct("!I")


def answer_until_the_end(requests: BinaryIO, answers: BinaryIO, *, max_bytes: int) -> None:
    """A question is the text of lines. The answer is their index, or empty if any line is not plain."""
    encode = msgspec.msgpack.Encoder().encode
    answers.write(SIZE.pack(0))
    answers.flush()
    while len(size := requests.read(SIZE.size)) == SIZE.size:
        index = plain_index(requests.read(SIZE.unpack(size)[0]), max_bytes=max_bytes)
        answer = b"" if index is None else encode(index)
        answers.write(SIZE.pack(len(answer)) + answer)
        answers.flush()


def main() -> None:
    """Run the process. Its one argument is the largest allowed size of an event, in bytes."""
    gc.disable()  # nothing here can be part of a reference cycle
    with open(0, "rb") as requests, open(1, "wb") as answers:
        answer_until_the_end(requests, answers, max_bytes=int(sys.argv[1]))


if __name__ == "__main__":
    main()
