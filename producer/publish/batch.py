"""Publishing many events: NDJSON in, one answer per line out.

Lines are read and checked while earlier ones are committed. The journal's writer takes everything that waits of a body
as one commit. The amount in progress per body is bounded; at the limit, reading pauses. If all lines are fine, they
stay one text from the first byte read until the journal, and so do their answers.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterable, Callable, Sequence
from operator import attrgetter
from typing import Any, Protocol

import msgspec

from unlost.listener.core.event import how_often
from unlost.ops.kit.access.limits import Quota
from unlost.producer.journal.port import JournalError, Placed
from unlost.producer.journal.publications import LINE_END, Lines, Publication, Publications
from unlost.producer.publish.accept import (
    Answer,
    Check,
    NotAccepted,
    accepted_lines,
    answer,
    answers,
    plain_index,
    publication,
)
from unlost.producer.publish.answers import Answers
from unlost.producer.publish.piece_buffer import PieceBuffer
from unlost.producer.publish.publisher import GroupCommit, Overloaded

LINES_AT_ONCE = 2_048
BYTES_AT_ONCE = 1024 * 1024
LINES_IN_A_TURN = 512
"""How many lines are checked here before other tasks get a turn."""
UNDER_WAY = 4
"""How many parts of a body may wait for their commit. Each has at most the lines above plus one network chunk."""
MOST_ANSWER_BYTES = 256 * 1024 * 1024
"""Reading stops once the answers exceed this: a line of two bytes can have an answer of two hundred."""

CountOutcome = Callable[[str, int], None]

_encoder = msgspec.json.Encoder()
_line_of = attrgetter("line")


class LineReader(Protocol):
    """Reads the lines of a batch elsewhere, in parallel to this process."""

    async def elsewhere(self, text: bytes, count: int, *, redeliver: bool) -> Lines | None:
        """Read these ``count`` lines. None if the caller must read them itself."""
        ...

    def close(self) -> None:
        """End what reads them."""
        ...


class ReadHere:
    """Leaves all lines to the caller. The fast way is ``ParseWorker``."""

    async def elsewhere(self, text: bytes, count: int, *, redeliver: bool) -> Lines | None:
        """See ``LineReader``."""
        del text, count, redeliver
        return None

    def close(self) -> None:
        """There is nothing to end."""


class PublishBatch:
    """One body on its way into the journal."""

    def __init__(
        self,
        publisher: GroupCommit,
        reading: LineReader,
        count_outcome: CountOutcome,
        *,
        max_event_bytes: int,
        max_batch_bytes: int,
        redeliver: bool,
        quota: Quota,
        check: Check | None = None,
        most_answer_bytes: int = MOST_ANSWER_BYTES,
    ) -> None:
        self._publisher = publisher
        self._reading = reading
        self._count_outcome = count_outcome
        self._max_event_bytes = max_event_bytes
        self._redeliver = redeliver
        self._quota = quota
        self._check = check
        self._lines = _Lines(max_event_bytes, max_batch_bytes)
        self._under_way: deque[_Part] = deque()
        self._answers = Answers()
        self._most_answer_bytes = most_answer_bytes

    async def run(self, chunks: AsyncIterable[bytes]) -> tuple[int, Answers]:
        """The status and the answers. An answered line has its outcome, whatever happens to later lines."""
        status, last = 200, b""
        try:
            await self._read(chunks)
        except (JournalError, Overloaded) as error:
            status, last = 503, self._unavailable(error)
        except NotAccepted as refused:
            status, last = 413, _line({"status": refused.status, "error": str(refused)})
        finally:
            failure = await self._end_all()
        if failure and status != 503:
            status, last = 503, last + self._unavailable(failure)
        self._answers.add(last)
        return status, self._answers

    async def _read(self, chunks: AsyncIterable[bytes]) -> None:
        async for chunk in chunks:
            if self._answers.size > self._most_answer_bytes:
                raise NotAccepted("too_large", f"the answers have more than {self._most_answer_bytes:,} bytes")
            self._lines.feed(chunk)
            if self._lines.are_enough:
                await self._begin(*self._lines.take())
        self._lines.end()
        if self._lines:
            await self._begin(*self._lines.take())

    async def _begin(self, numbered: range, text: bytes) -> None:
        if (wait := self._quota.wait(asyncio.get_running_loop().time())) > 0:
            await asyncio.sleep(wait)  # what follows of the body is not read meanwhile
        self._quota.charge(len(numbered), len(text))
        good = await self._reading.elsewhere(text, len(numbered), redeliver=self._redeliver)
        if good is not None:
            await self._place(_Part(good, numbered))
            return
        numbers, lines = _cut(numbered, text)
        for first in range(0, len(lines), LINES_IN_A_TURN):
            turn = slice(first, first + LINES_IN_A_TURN)
            await self._place(self._checked(numbers[turn], lines[turn]))
            await asyncio.sleep(0)

    async def _place(self, part: "_Part") -> None:
        while self._under_way and (len(self._under_way) >= UNDER_WAY or self._publisher.is_full_for(self._quota)):
            await self._end(self._under_way.popleft())
        if part.good:
            part.placing = self._publisher.place(part.good, together=self, owner=self._quota)
        self._under_way.append(part)

    def _checked(self, numbers: list[int], lines: list[bytes]) -> "_Part":
        text = LINE_END.join(lines)
        index = None if self._check else plain_index(text, max_bytes=self._max_event_bytes)
        if index is not None:
            return _Part(Lines(text, index, self._redeliver), numbers)
        good: list[Publication] = []
        accepted: list[int] = []
        refusals: list[Answer] = []
        for number, line in zip(numbers, lines, strict=True):
            try:
                one = publication(line, max_bytes=self._max_event_bytes, redeliver=self._redeliver, check=self._check)
                good.append(one)
                accepted.append(number)
            except NotAccepted as refused:
                refusals.append(answer(refused, refused.event_id, number))
        return _Part(good, accepted, refusals)

    async def _end(self, part: "_Part") -> None:
        answered = list(part.refused)
        if part.placing is not None:
            placed = await part.placing
            written = accepted_lines(placed, part.good, part.lines)
            if written is not None:
                self._count_outcome("accepted", len(placed))
                self._answers.add(written)
                return
            answered += answers(placed, part.good, part.lines)
        for status, count in Counter([one.status for one in answered]).items():
            self._count_outcome(status, count)
        self._answers.add(
            _encoder.encode_lines(sorted(answered, key=_line_of) if len(answered) > len(part.lines) else answered)
        )

    async def _end_all(self) -> JournalError | None:
        """Wait for all parts in progress. If a body fails in the middle, later parts may be stored nevertheless."""
        failure = None
        while self._under_way:
            try:
                await self._end(self._under_way.popleft())
            except JournalError as error:
                failure = error
        return failure

    def _unavailable(self, error: Exception) -> bytes:
        self._count_outcome("unavailable", 1)
        return _line({"status": "unavailable", "error": str(error)})


class _Part:
    """Some lines, and what is known about them."""

    __slots__ = ("good", "lines", "placing", "refused")

    def __init__(self, good: Publications, lines: Sequence[int], refused: Sequence[Answer] = ()) -> None:
        self.good = good
        self.lines = lines
        """The line numbers of the accepted lines."""
        self.refused = refused
        self.placing: asyncio.Future[Sequence[Placed]] | None = None


class _Lines:
    """Cuts a streamed body between lines, and numbers the lines."""

    def __init__(self, max_line: int, max_body: int) -> None:
        self._texts: list[bytes] = []
        self._bytes = 0
        self._taken = 0
        """How many lines were taken already."""
        self._number = 0
        self._rest = PieceBuffer()
        """The beginning of a line whose end has not come yet."""
        self._read = 0
        self._max_line = max_line
        self._max_body = max_body

    def feed(self, chunk: bytes) -> None:
        self._read += len(chunk)
        if self._read > self._max_body:
            raise NotAccepted("too_large", f"the batch has more than the {self._max_body:,} bytes that are allowed")
        lines, line_end, rest = chunk.rpartition(LINE_END)
        if line_end:
            self._add(self._rest.take() + lines if self._rest else lines)
        self._rest.add(rest)
        if len(self._rest) > 2 * self._max_line:
            raise NotAccepted("too_large", f"line {self._number + 1} has more than {self._max_line:,} bytes")

    def __len__(self) -> int:
        return self._number - self._taken

    @property
    def are_enough(self) -> bool:
        """Whether there are enough lines, or enough bytes, for a commit."""
        return len(self) >= LINES_AT_ONCE or self._bytes >= BYTES_AT_ONCE

    def end(self) -> None:
        if self._rest:
            self._add(self._rest.take())

    def _add(self, text: bytes) -> None:
        if b"\r" in text:
            text = text.replace(b"\r\n", LINE_END).removesuffix(b"\r")
        self._texts.append(text)
        self._bytes += len(text)
        self._number += how_often(LINE_END, text) + 1

    def take(self) -> tuple[range, bytes]:
        """All complete lines so far: their numbers and their text."""
        numbers, text = range(self._taken + 1, self._number + 1), LINE_END.join(self._texts)
        self._texts, self._bytes, self._taken = [], 0, self._number
        return numbers, text


def _cut(numbered: range, text: bytes) -> tuple[list[int], list[bytes]]:
    """Stripped lines and their numbers. Blank lines are counted but not kept."""
    some = [
        (number, line) for number, line in zip(numbered, map(bytes.strip, text.split(LINE_END)), strict=True) if line
    ]
    return [number for number, _ in some], [line for _, line in some]


def _line(answer: dict[str, Any]) -> bytes:
    return _encoder.encode(answer) + b"\n"
