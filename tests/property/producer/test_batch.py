"""Any published body, in any pieces: each line is answered and stored as it would be alone."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.ops.kit.access.gate import UNLIMITED
from unlost.producer.fast.parse_worker import ParseWorker
from unlost.producer.journal.port import Accepted, Entry
from unlost.producer.journal.publications import Lines
from unlost.producer.journal.sqlite.adapter import SqliteJournal
from unlost.producer.publish.accept import NotAccepted, accepted_lines, answer, answers, plain_index, publication
from unlost.producer.publish.batch import LINES_AT_ONCE, MOST_ANSWER_BYTES, UNDER_WAY, PublishBatch
from unlost.producer.publish.publisher import GroupCommit

LIMIT = 200
# A line of more than twice the limit ends the whole batch (413), so ids stay short.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
ids = st.one_of(st.sampled_from("abc"), texts)
payloads = st.sampled_from(["1", '{"a":"é"}', '"%d"', '{"a":1,"a":2}', '"' + "x" * LIMIT + '"', "[1, 2]"])
plain = st.builds(lambda name, payload: b'{"event_id":%b,"payload":%b}' % (name, payload.encode()),
                  ids.map(msgspec.json.encode), payloads)  # fmt: skip
others = st.sampled_from([b"", b" ", b"nonsense", b"\t{} ", b'{"x":1}', b'{"event_id":"a","payload":\r1}', b"\xff"])
lines = st.lists(st.one_of(plain, plain, plain, others), max_size=40)


class ReadingHere(ParseWorker):
    """Reads as the parse process does, in this process."""

    read = 0

    async def elsewhere(self, text: bytes, count: int, *, redeliver: bool) -> Lines | None:
        await asyncio.sleep(0)
        index = plain_index(text, max_bytes=self._max_bytes)
        assert index is None or len(index) == count
        self.read += 0 if index is None else count
        return None if index is None else Lines(text, index, redeliver)


def in_pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in pairwise(ends)]


def one_by_one(journal: SqliteJournal, body: bytes, *, redeliver: bool) -> bytes:
    """The expected answer."""
    shown = []
    for number, line in enumerate(map(bytes.strip, body.split(b"\n")), 1):
        try:
            if line:
                one = publication(line, max_bytes=LIMIT, redeliver=redeliver)
                shown.append(answer(journal.append([[one]], 1.0).placed[0], one.event_id, number))
        except NotAccepted as refused:
            shown.append(answer(refused, refused.event_id, number))
    return msgspec.json.Encoder().encode_lines(shown)


async def published(
    journal: SqliteJournal,
    body: bytes,
    pieces: list[bytes],
    reading: ParseWorker,
    *,
    redeliver: bool,
    most_answer_bytes: int = MOST_ANSWER_BYTES,
) -> tuple[int, bytes]:
    publisher = GroupCommit(
        journal, placed=lambda newest, entries: None, committed=lambda count, seconds: None, failed=lambda error: None
    )
    batch = PublishBatch(
        publisher, reading, lambda status, count: None, max_event_bytes=LIMIT, max_batch_bytes=len(body),
        redeliver=redeliver, most_answer_bytes=most_answer_bytes, quota=UNLIMITED,
    )  # fmt: skip

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    run = asyncio.create_task(publisher.run())
    status, shown = await batch.run(chunks())
    run.cancel()
    await asyncio.wait([run])
    return status, shown.whole()


def read(journal: SqliteJournal) -> list[tuple[int, str, bytes, bytes]]:
    def fields(entry: Entry) -> tuple[int, str, bytes, bytes]:
        return entry.number, entry.event_id, entry.digest, entry.body

    return [fields(entry) for entry in journal.read(0, 1_000)]


@settings(max_examples=100, deadline=None)
@given(lines, st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.lists(st.integers(0, 10_000), max_size=5),
       st.booleans(), st.booleans())  # fmt: skip
def test_each_line_of_a_body_is_answered_and_placed_as_if_alone(
    some: list[bytes], line_end: bytes, ended: bool, cuts: list[int], near: bool, redeliver: bool
) -> None:
    body = line_end.join(some) + line_end * ended
    with tempfile.TemporaryDirectory() as directory:
        alone, together = SqliteJournal(Path(directory) / "alone"), SqliteJournal(Path(directory) / "together")
        due = one_by_one(alone, body, redeliver=redeliver).replace(alone.timelines.stem.encode(), b"here")
        reading = ReadingHere(max_bytes=LIMIT) if near else ParseWorker(max_bytes=LIMIT, cores=1)
        status, shown = asyncio.run(published(together, body, in_pieces(body, cuts), reading, redeliver=redeliver))
        assert (status, shown.replace(together.timelines.stem.encode(), b"here")) == (200, due)
        assert read(together) == read(alone)
        alone.close()
        together.close()


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [7, 1_000, 100_000])
async def test_whole_lines_are_read_together_wherever_a_body_is_cut(tmp_path: Path, line_end: bytes, size: int) -> None:
    body = b"".join(b'{"event_id":"e%d","payload":1}%b' % (number, line_end) for number in range(3_000))
    journal, reading = SqliteJournal(tmp_path / "journal"), ReadingHere(max_bytes=LIMIT)
    pieces = [body[first : first + size] for first in range(0, len(body), size)]
    status, shown = await published(journal, body, pieces, reading, redeliver=False)
    assert status == 200
    assert [one["line"] for one in msgspec.json.Decoder().decode_lines(shown)] == list(range(1, 3_001))
    assert reading.read == 3_000, "none needed a closer look"
    assert journal.bounds() == (0, 3_000)
    journal.close()


@pytest.mark.parametrize("line", [b"x\n", b'{"event_id":"e","payload":1}\n'])
async def test_reads_no_more_of_a_body_whose_answers_are_too_large_and_reports_what_it_has(
    tmp_path: Path, line: bytes
) -> None:
    pieces = [line * LINES_AT_ONCE] * (UNDER_WAY + 8)
    journal, reading = SqliteJournal(tmp_path / "journal"), ParseWorker(max_bytes=LIMIT, cores=1)
    status, shown = await published(
        journal, b"".join(pieces), pieces, reading, redeliver=True, most_answer_bytes=40 * LINES_AT_ONCE
    )
    *lines, last = msgspec.json.Decoder().decode_lines(shown)
    assert (status, last["status"]) == (413, "too_large")
    assert [one["line"] for one in lines] == list(range(1, len(lines) + 1))
    assert LINES_AT_ONCE <= len(lines) <= LINES_AT_ONCE * (UNDER_WAY + 2)
    assert journal.bounds() == (0, len(lines) if b"e" in line else 0)
    journal.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(ids, min_size=1, max_size=20), st.integers(0, 10**15), st.integers(1, 10**6))
def test_answers_that_are_written_in_one_go_are_those_of_each_line(names: list[str], number: int, line: int) -> None:
    text = b"\n".join([b'{"event_id":%b,"payload":1}' % msgspec.json.encode(name) for name in names])
    index = plain_index(text, max_bytes=10_000)
    if index is None:  # an escape needs a closer look
        return
    published = Lines(text, index)
    placed = Accepted("a1b2c3.", range(number, number + len(names)))
    numbers = range(line, line + len(names))
    written = accepted_lines(placed, published, numbers)
    assert (written is None) == any(b"\\" in msgspec.json.encode(name) for name in names)
    if written is not None:
        assert written == msgspec.json.Encoder().encode_lines(answers(placed, published, numbers))
    assert accepted_lines(list(placed), published, numbers) is None
