"""Publishing many: NDJSON in, an answer a line out.

Lines are read and checked while earlier ones are being committed, and the journal's writer takes all that waits as one
commit. How much is under way for one body is bounded: beyond that, nothing more of it is read.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any

import msgspec

from producer.accept import Answer, Refused, answer, answers, publication, publications
from producer.journal.port import JournalTrouble, Placed, Publication
from producer.publisher import Overloaded, Publisher
from producer.reading import Reading

LINES_AT_ONCE = 2_048
BYTES_AT_ONCE = 1024 * 1024
LINES_IN_A_TURN = 512
"""So many are read here before others have their turn."""
UNDER_WAY = 4
"""So many parts may wait for their commit, each of the lines above at most."""

Told = Callable[[str, int], None]

_encoder = msgspec.json.Encoder()
_line_of = attrgetter("line")


class Batch:
    """One body on its way into the journal."""

    def __init__(
        self,
        publisher: Publisher,
        reading: Reading,
        told: Told,
        *,
        max_event_bytes: int,
        max_batch_bytes: int,
        redeliver: bool,
    ) -> None:
        self._publisher = publisher
        self._reading = reading
        self._told = told
        self._max_event_bytes = max_event_bytes
        self._redeliver = redeliver
        self._lines = _Lines(max_event_bytes, max_batch_bytes)
        self._under_way: deque[_Part] = deque()
        self._answers: list[bytes] = []

    async def run(self, chunks: AsyncIterable[bytes]) -> tuple[int, bytes]:
        """The status and the body of the answer. Lines that have one in it have it whatever became of the others."""
        status, last = 200, b""
        try:
            await self._read(chunks)
        except (JournalTrouble, Overloaded) as error:
            status, last = 503, self._unavailable(error)
        except Refused as refused:
            status, last = 413, _line({"status": refused.status, "error": str(refused)})
        finally:
            trouble = await self._end_all()
        if trouble and status != 503:
            status, last = 503, last + self._unavailable(trouble)
        return status, b"".join(self._answers) + last

    async def _read(self, chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            self._lines.feed(chunk)
            while self._lines.are_enough:
                await self._begin(*self._lines.take(LINES_AT_ONCE))
        self._lines.end()
        while self._lines:
            await self._begin(*self._lines.take(LINES_AT_ONCE))

    async def _begin(self, numbers: list[int], lines: list[bytes]) -> None:
        good = await self._reading.elsewhere(lines, max_bytes=self._max_event_bytes, redeliver=self._redeliver)
        if good is not None:
            await self._place(_Part(good, numbers))
            return
        for first in range(0, len(lines), LINES_IN_A_TURN):
            turn = slice(first, first + LINES_IN_A_TURN)
            await self._place(self._checked(numbers[turn], lines[turn]))
            await asyncio.sleep(0)

    async def _place(self, part: "_Part") -> None:
        while self._under_way and (len(self._under_way) >= UNDER_WAY or self._publisher.is_full):
            await self._end(self._under_way.popleft())
        if part.good:
            part.placing = self._publisher.place(part.good, together=self)
        self._under_way.append(part)

    def _checked(self, numbers: list[int], lines: list[bytes]) -> "_Part":
        good = publications(lines, max_bytes=self._max_event_bytes, redeliver=self._redeliver)
        if good is not None:
            return _Part(good, numbers)
        part = _Part([], [])
        for number, line in zip(numbers, lines, strict=True):
            try:
                part.good.append(publication(line, max_bytes=self._max_event_bytes, redeliver=self._redeliver))
                part.lines.append(number)
            except Refused as refused:
                part.refused.append(answer(refused, refused.event_id, number))
        return part

    async def _end(self, part: "_Part") -> None:
        told = part.refused
        if part.placing is not None:
            placed = await part.placing
            told += answers(placed, part.good, part.lines)
        for status, count in Counter([one.status for one in told]).items():
            self._told(status, count)
        self._answers.append(_encoder.encode_lines(sorted(told, key=_line_of) if len(told) > len(part.lines) else told))

    async def _end_all(self) -> JournalTrouble | None:
        """What is under way is heard out: of a body that fails in its middle, the rest may have been placed."""
        trouble = None
        while self._under_way:
            try:
                await self._end(self._under_way.popleft())
            except JournalTrouble as error:
                trouble = error
        return trouble

    def _unavailable(self, error: Exception) -> bytes:
        self._told("unavailable", 1)
        return _line({"status": "unavailable", "error": str(error)})


class _Part:
    """Some lines, and what is known of them."""

    __slots__ = ("good", "lines", "placing", "refused")

    def __init__(self, good: list[Publication], lines: list[int]) -> None:
        self.good = good
        self.lines = lines
        """Those of the good ones."""
        self.refused: list[Answer] = []
        self.placing: asyncio.Future[list[Placed]] | None = None


class _Lines:
    """Cuts a streamed body into stripped lines and their numbers; blank ones count but are not kept."""

    def __init__(self, max_line: int, max_body: int) -> None:
        self._numbers: list[int] = []
        self._lines: list[bytes] = []
        self._bytes = 0
        self._rest = b""
        self._number = 0
        self._read = 0
        self._max_line = max_line
        self._max_body = max_body

    def feed(self, chunk: bytes) -> None:
        self._read += len(chunk)
        if self._read > self._max_body:
            raise Refused("too_large", f"the batch has more than the {self._max_body:,} bytes that are allowed")
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self._add(lines)
        if len(self._rest) > 2 * self._max_line:
            raise Refused("too_large", f"line {self._number + 1} has more than {self._max_line:,} bytes")

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def are_enough(self) -> bool:
        """Whether a commit is worth it, or holding more would cost too much."""
        return len(self._lines) >= LINES_AT_ONCE or self._bytes >= BYTES_AT_ONCE

    def end(self) -> None:
        self._add([self._rest])
        self._rest = b""

    def _add(self, lines: Sequence[bytes]) -> None:
        stripped = list(map(bytes.strip, lines))
        numbers: Iterable[int] = range(self._number + 1, self._number + 1 + len(lines))
        if all(stripped):
            self._lines += stripped
        else:
            numbers = compress(numbers, stripped)
            self._lines += filter(None, stripped)
        self._numbers += numbers
        self._bytes += sum(map(len, stripped))
        self._number += len(lines)

    def take(self, count: int) -> tuple[list[int], list[bytes]]:
        numbers, self._numbers = self._numbers[:count], self._numbers[count:]
        lines, self._lines = self._lines[:count], self._lines[count:]
        self._bytes -= sum(map(len, lines))
        return numbers, lines


def _line(told: dict[str, Any]) -> bytes:
    return _encoder.encode(told) + b"\n"
