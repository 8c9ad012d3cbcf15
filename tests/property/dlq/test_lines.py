"""Letters and states as lines: whatever is cut or damaged, every complete line is read, and damage is recognised."""

import json
import tempfile
from pathlib import Path
from typing import get_args

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from unlost.dlq.record import sidecar
from unlost.dlq.record.file import DamagedLine, DeadLetterFile, LineFile, Located, read_letters
from unlost.dlq.record.fingerprint import fingerprint
from unlost.dlq.record.letter import Letter, letter_for, letter_for_frame
from unlost.dlq.record.letter_line import Damaged, decode, encode
from unlost.dlq.record.letter_state import Record, fold
from unlost.dlq.record.sidecar import Sidecar, sidecar_path, states
from unlost.listener.core.cause import Reason
from unlost.listener.core.errors import Failure, InvalidEvent
from unlost.listener.core.event import parse

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "://" not in text)
calm = words.filter(lambda text: "=" not in text)
times = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1e6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | words, lambda inner: st.lists(inner) | st.dictionaries(words, inner)
)
objects = st.dictionaries(words, values, max_size=4).map(lambda one: json.dumps(one, ensure_ascii=False).encode())
failures = st.builds(
    Failure,
    times,
    st.sampled_from(["receive", "claim", "handle", "store"]),
    st.sampled_from(["transient", "permanent"]),
    words,
    calm,
    st.none() | words,
    st.none() | calm,
)
letters = st.builds(
    Letter,
    letter_id=st.uuids().map(lambda one: one.hex),
    event_id=st.none() | words,
    reason=st.sampled_from(get_args(Reason)),
    error_class=st.sampled_from(["transient", "permanent"]),
    stage=words,
    event=st.none() | objects,
    raw=st.none() | st.binary(max_size=80),
    attempts=st.lists(failures, max_size=3).map(tuple),
    error_type=words,
    message=calm,
    sqlstate=st.none() | words,
    fingerprint=words,
    first_at=times,
    last_at=times,
    instance=words,
    epoch=st.integers(0, 2**40),
    mode=st.sampled_from(["normal", "degraded"]),
    cursor=st.none() | words,
    source=st.none() | calm,
    raw_length=st.none() | st.integers(0, 2**62),
    raw_sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    handler=st.none() | calm,
)
records = st.builds(
    Record,
    letter_id=st.sampled_from(["a", "b", "c"]),
    what=st.sampled_from(["resolved", "failed", "archived", "restored", "quarantined"]),
    at=times,
    detail=calm,
    error_type=st.none() | words,
)


@given(letters)
def test_a_letter_comes_back_as_it_was(letter: Letter):
    line = encode(letter)
    assert b"\n" not in line
    assert decode(line) == letter
    assert msgspec.json.decode(line)["v"] == 1


@given(st.binary(max_size=300))
def test_a_frame_is_kept_to_the_byte(frame: bytes):
    letter = letter_for_frame(frame, letter_id="l", message="m", event_id=None, at=1.0, instance="a", source=None)
    assert decode(encode(letter)).raw == frame


@given(objects, st.booleans())
def test_an_event_is_embedded_as_its_publisher_wrote_it(payload: bytes, spread: bool):
    gap = b"\r\n " if spread else b""
    text = b'{%b"event_id":"e",%b"payload":%b}' % (gap, gap, payload)
    try:
        event = parse(text, max_bytes=10**6)
    except InvalidEvent:
        return
    letter = letter_for(
        event, letter_id="l", reason="conflict", stage="claim", attempts=[], at=1.0, instance="a", epoch=1,
        mode="normal", source=None,
    )  # fmt: skip
    kept = decode(encode(letter)).event
    assert kept is not None
    again = parse(kept, max_bytes=10**6)
    assert (again.event_id, json.loads(again.payload)) == ("e", json.loads(payload))


@given(letters, st.data())
def test_any_changed_byte_is_noticed(letter: Letter, data: st.DataObject):
    line = bytearray(encode(letter))
    index = data.draw(st.integers(0, len(line) - 1))
    line[index] ^= data.draw(st.integers(1, 255))
    try:
        assert decode(bytes(line)) == letter
    except Damaged:
        return
    raise AssertionError("a changed line was taken for a letter")


@settings(max_examples=60, deadline=None)
@given(st.lists(letters, min_size=1, max_size=4), letters, st.data())
def test_a_file_cut_anywhere_keeps_every_whole_line_and_the_next_letter(before, added, data):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "letters.jsonl"
        write(path, before)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        lengths = [len(encode(letter)) for letter in before]
        starts = [sum(lengths[:i]) + i for i in range(len(before))]
        kept = [one for one, start, length in zip(before, starts, lengths, strict=True) if start + length <= cut]
        torn = [start for start, length in zip(starts, lengths, strict=True) if start < cut < start + length]

        write(path, [added])

        found = list(read_letters(path))
        assert [one.letter for one in found if isinstance(one, Located)] == [*kept, added]
        assert [one.offset for one in found if isinstance(one, DamagedLine)] == torn


@settings(max_examples=40, deadline=None)
@given(st.lists(records, min_size=1, max_size=6), records, st.data())
def test_a_sidecar_cut_anywhere_keeps_every_whole_state_and_the_next(before, added, data):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "letters.jsonl"
        append(path, before)
        whole = sidecar_path(path).read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        sidecar_path(path).write_bytes(whole[:cut])
        kept, end = [], 0
        for record in before:
            end += len(sidecar.encode(record))
            if end <= cut:
                kept.append(record)
            end += 1
        append(path, [added])
        assert states(path) == fold([*kept, added])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), letters | st.binary(min_size=1, max_size=20)), max_size=12))
def test_writers_and_torn_writes_interleave_without_loss(steps):
    """Two writers append in turn. Random bytes stand for what a third one left when it was killed."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "letters.jsonl"
        writers = [LineFile(path), LineFile(path)]
        wanted = []
        for who, what in steps:
            if isinstance(what, bytes):
                with path.open("ab") as file:
                    file.write(what)
            else:
                writers[who].append([encode(what)])
                wanted.append(what)
        for writer in writers:
            writer.close()
        found = list(read_letters(path)) if path.exists() else []
        assert [one.letter for one in found if isinstance(one, Located)] == wanted


@given(st.lists(records, max_size=12))
def test_a_resolved_letter_stays_resolved(history):
    known = fold(history)
    for letter_id in {one.letter_id for one in history if one.what == "resolved"}:
        assert known[letter_id].status == "resolved"


@given(st.integers(0, 10**9), st.uuids(), st.text("abc 12", max_size=8))
def test_failures_that_differ_in_ids_alone_are_one_group(number, uuid, quoted):
    quoted = quoted.replace('"', "")
    one = fingerprint("exhausted", "E", f'order {number} of {uuid} was "{quoted}"', None, "handle", None)
    other = fingerprint(
        "exhausted", "E", 'order 1 of 00000000-0000-4000-8000-000000000000 was "x"', None, "handle", None
    )
    assert one == other
    assert one != fingerprint("exhausted", "E", "another order", None, "handle", None)


def write(path: Path, some: list[Letter]) -> None:
    file = DeadLetterFile(path)
    file.append(some)
    file.close()


def append(path: Path, some: list[Record]) -> None:
    one = Sidecar(path)
    one.append(some)
    one.close()
