"""With a codec, nothing of an event's content is kept in plain text, and everything works as without."""

import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.codecs import Keys
from unlost.dlq.record.coded import decoded
from unlost.dlq.record.event import edited_as, event_of
from unlost.dlq.record.file import DeadLetterFile, Located, read_letters
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import encode
from unlost.dlq.record.letter_state import Edit, Record
from unlost.dlq.record.query import Selection
from unlost.dlq.store.coded import DecodedLetters
from unlost.dlq.store.files import FileLetters
from unlost.listener.app.dead_letter_sink import FileDeadLetterSink
from unlost.listener.core.cause import DeadLetterCause
from unlost.listener.core.codec import EventCodec, SubjectErased, is_coded
from unlost.listener.core.effects import Effects
from unlost.listener.core.errors import Failure, InvalidEvent, Permanent
from unlost.listener.core.event import Event, parse
from unlost.listener.core.in_flight import InFlight, conflict_claim
from unlost.listener.pipeline.frames import flight_of
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.ports.rows import INSERTED, OTHER_ROW, SAME_ROW, NewRow
from unlost.listener.store.burials import burial_of, resolved_of
from unlost.listener.store.postgres.connections import ConnectionKind
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.effects import PostgresEffects
from unlost.listener.store.postgres.healing import PostgresHealing
from unlost.listener.store.postgres.letter_rows import Listed
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.rows import PostgresRows

pytestmark = pytest.mark.database("migrated")

SECRET = "jane.doe@example.org"


class Bench:
    """A group's tables, a codec, and its key file."""

    def __init__(self, database: Database, keys: Path) -> None:
        self.database, self.keys = database, Keys(keys)
        self.codec = self.keys.codec
        self.rows = self.with_codec(self.codec)

    def with_codec(self, codec: EventCodec | None, token: str = "a") -> PostgresRows:
        return PostgresRows(self.database, instance_id=token, token=token, codec=codec)

    async def everything(self) -> str:
        """All text in the group's tables."""
        found = []
        async with self.database.acquire() as connection:
            for (table,) in await connection.fetch(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'unlost'"
            ):
                rows = await connection.fetch(f"SELECT t::text, encode(t::text::bytea, 'escape') FROM unlost.{table} t")
                found += [text for row in rows for text in row]
            lines = await connection.fetch("SELECT convert_from(line, 'UTF8') FROM unlost.letter_lines")
            bodies = await connection.fetch("SELECT convert_from(body, 'UTF8') FROM unlost.effects")
        return "\n".join([*found, *(text for (text,) in (*lines, *bodies))])


@pytest.fixture
async def bench(database_url: str, kind: ConnectionKind, tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database(database_url, timeout=2.0, kind=kind)
    await migrate(database)
    yield Bench(database, tmp_path / "keys.json")
    await database.close()


def event(event_id: str = "e", customer: str = "17", more: str = "") -> Event:
    payload = f'{{"mail": "{SECRET}", "customer": "{customer}"{more}}}'
    body = f'{{"event_id": "{event_id}", "type": "t", "payload": {payload}, "x": "{SECRET}"}}'
    return parse(body, max_bytes=10_000)


def row(one: Event, **more: Any) -> NewRow:
    return NewRow(one, 1, 1, 0.0, **more)


async def test_a_row_is_encoded_and_shown_decoded(bench: Bench) -> None:
    assert await bench.rows.insert([row(event())]) == [INSERTED]
    assert await bench.rows.insert([row(event("f")), row(event("g"))]) == [INSERTED, INSERTED]
    assert await bench.rows.insert([row(event("k"), order_key="k"), row(event("l"), order_key="k")]) == [INSERTED] * 2
    text = await bench.everything()
    assert SECRET not in text
    assert '""kid"": ""k1""' in text
    found = await bench.rows.one("e")
    assert found is not None
    assert found["payload"] == {"mail": SECRET, "customer": "17"}
    assert found["other"] == {"x": SECRET}
    assert [one["payload"]["mail"] for one in await bench.rows.page(None, 10)] == [SECRET] * 5
    sealed = await bench.with_codec(None).one("e")
    assert sealed is not None
    assert sealed["payload"]["unlost"] == "enc"


async def test_duplicates_and_conflicts_are_distinguished_as_without_a_codec(bench: Bench) -> None:
    await bench.rows.insert([row(event()), row(event("f"))])
    again = bench.with_codec(bench.keys.codec_of(), "b")
    assert await again.insert([row(event())]) == [SAME_ROW]
    written_otherwise = parse(event().frame.replace(b'": ', b'":').replace(b'"t"', b' "t" '), max_bytes=10_000)
    assert written_otherwise.digest != event().digest
    assert await again.insert([row(written_otherwise), row(event("f"))]) == [SAME_ROW, SAME_ROW]
    assert await again.same_content(written_otherwise) is True
    other = event(more=', "n": 1')
    assert await again.insert([row(other)]) == [OTHER_ROW]
    assert await again.same_content(other) is False
    assert await bench.rows.insert([row(event())]) == [INSERTED]  # our own, after a lost reply


async def test_rows_from_before_the_codec_are_compared_too(bench: Bench) -> None:
    await bench.with_codec(None, "old").insert([row(event())])
    assert await bench.rows.insert([row(event())]) == [SAME_ROW]
    assert await bench.rows.insert([row(parse(event().frame.replace(b'": ', b'":'), max_bytes=10_000))]) == [SAME_ROW]
    assert await bench.rows.insert([row(event(more=', "n": 1'))]) == [OTHER_ROW]
    found = await bench.rows.one("e")
    assert found is not None
    assert found["payload"]["mail"] == SECRET


async def test_a_handler_gets_plain_content_and_its_effects_are_encoded(bench: Bench) -> None:
    table = PostgresEffects(bench.database, token="a", codec=bench.codec)
    effects = Effects()
    effects.post(f"https://example.org/{SECRET}", json={"mail": SECRET}, headers={"x-mail": SECRET}, in_order=True)
    effects.publish({"payload": {"mail": SECRET}})

    async def work(connection: Any) -> None:
        await table.record(connection, event(), effects.taken())

    assert await bench.rows.insert_with(row(event()), work) == INSERTED
    assert SECRET not in await bench.everything()
    plain = PostgresEffects(bench.database, token="b", codec=bench.codec)
    post, publish = sorted(await plain.take(9, lease=0.0, skip=()), key=lambda one: one.number)
    assert (post.url, post.headers["x-mail"]) == (f"https://example.org/{SECRET}", SECRET)
    assert SECRET.encode() in post.body
    assert SECRET.encode() in publish.body
    assert publish.key.encode() in publish.body
    await plain.failed(post, f"400 {SECRET}", wait=0.0, counts=True)
    assert SECRET not in await bench.everything()
    bench.keys.erase("17")
    gone, _ = sorted(await plain.take(9, lease=0.0, skip=()), key=lambda one: one.number)
    assert "its subject was erased" in gone.unreadable


async def test_no_event_of_an_erased_subject_becomes_a_row(bench: Bench) -> None:
    await bench.rows.insert([row(event())])
    bench.keys.erase("17")
    ran = []

    async def work(connection: Any) -> None:
        ran.append(connection)

    with pytest.raises(SubjectErased):
        await bench.rows.insert([row(event("f"))])
    with pytest.raises(Permanent, match="its subject was erased"):
        await bench.rows.insert([row(event("f")), row(event("g", "18"))])
    with pytest.raises(SubjectErased):
        await bench.rows.insert_with(row(event("f")), work)
    assert not ran
    assert await bench.rows.insert([row(event("g", "18"))]) == [INSERTED]
    found = await bench.rows.one("e")
    assert found is not None
    assert "its subject was erased" in found["unreadable"]
    assert found["payload"]["unlost"] == "enc"


async def test_after_a_rotation_old_and_new_rows_are_read(bench: Bench) -> None:
    await bench.rows.insert([row(event())])
    bench.keys.rotate()
    await bench.rows.insert([row(event("f"))])
    assert [one["payload"]["mail"] for one in await bench.rows.page(None, 10)] == [SECRET] * 2
    kids = [one["payload"]["kid"] for one in await bench.with_codec(None).page(None, 10)]
    assert kids[0] != kids[1] == "k1"


def flight(one: Event, reason: str = "exhausted") -> InFlight:
    condemned = InFlight(one, conflict_claim(one), None, received_at=time.time(), received_clock=0.0)
    condemned.cause = DeadLetterCause(reason, "handle")  # type: ignore[arg-type]
    condemned.attempts.append(
        Failure(time.time(), "handle", "transient", "ValueError", f"no {SECRET}", None, f"trace of {SECRET}")
    )
    return condemned


def holds(path: Path) -> bool:
    return SECRET.encode() in path.read_bytes()


async def buried(bench: Bench, path: Path, *flights: InFlight) -> list[tuple[Letter, Burial]]:
    file = DeadLetterFile(path)
    sink = FileDeadLetterSink(file, path, instance="a", degraded=lambda: False, codec=lambda: bench.codec)
    burials = await sink.bury(flights)
    sink.close()
    assert not holds(path)
    found = [one.letter for one in read_letters(path) if isinstance(one, Located)]
    return list(zip(found[-len(flights) :], burials, strict=True))


async def test_a_letter_is_encoded_with_all_its_texts(bench: Bench, tmp_path: Path) -> None:
    ((letter, burial),) = await buried(bench, tmp_path / "l.jsonl", flight(event()))
    assert (letter.event_id, letter.error_type, letter.message) == ("e", "ValueError", "(encrypted with the event)")
    assert is_coded(parse(letter.event or b"", max_bytes=10_000).payload)
    assert burial_of(letter) == Burial("e", event().digest, letter.letter_id)
    assert burial.digest == event().digest
    assert resolved_of(letter).burial.digest == event().digest
    edited = edited_as(letter, 2)
    assert edited is not None
    assert edited.original == event().digest
    with pytest.raises(InvalidEvent, match="it is encrypted"):
        event_of(letter, max_bytes=10_000)
    whole = decoded(letter, bench.codec)
    assert event_of(whole, max_bytes=10_000) == event()
    assert whole.message == f"no {SECRET}"
    assert whole.attempts[0].traceback == f"trace of {SECRET}"


async def test_a_frame_that_is_no_event_is_encoded_too(bench: Bench, tmp_path: Path) -> None:
    frame = f'{{"event_id": "e", {SECRET}'.encode()
    digest = hashlib.sha256(frame).digest()
    broken = flight_of(InvalidEvent(f"no JSON: {SECRET}"), frame, None, 1.0, 1.0)
    ((letter, burial),) = await buried(bench, tmp_path / "l.jsonl", broken)
    assert burial_of(letter) == Burial(burial.claim_id, digest, letter.letter_id)
    assert burial.claim_id == f"invalid:{digest.hex()}"
    assert resolved_of(letter).burial.digest == digest
    assert decoded(letter, bench.codec).raw == frame


async def test_listeners_heal_encoded_letters(bench: Bench, tmp_path: Path) -> None:
    found = await buried(bench, tmp_path / "l.jsonl", flight(event()), flight(event("f", "18")))
    table = LetterTable(bench.database, token="t")
    await table.add("a", [Listed(letter, encode(letter), burial_of(letter), 0.0) for letter, _ in found])
    assert SECRET not in await bench.everything()

    def healing(codec: EventCodec | None) -> PostgresHealing:
        return PostgresHealing(bench.database, token="a", instance="a", handler=None, attempts=9, codec=codec)

    bench.keys.erase("18")
    mine = healing(bench.codec)
    (group,) = await mine.groups(9)
    (letter,) = await mine.take(group, 9)
    assert parse(letter.frame if isinstance(letter.frame, bytes) else b"", max_bytes=10_000) == event()
    async with bench.database.acquire() as connection:
        left = await connection.fetch("SELECT event_id FROM unlost.letters WHERE heal_at IS NULL")
    assert [row["event_id"] for row in left] == ["f"]


async def test_a_file_of_letters_is_read_and_edited_decoded(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    ((letter, _),) = await buried(bench, path, flight(event()))
    store = DecodedLetters(FileLetters([path]), bench.codec)
    (entry,) = (await store.latest(Selection(), 0)).entries
    assert SECRET in entry.letter.message
    fixed = event(more=', "n": 2').frame
    async with store.replaying(Selection(), 0, "test") as taken:
        (one,) = await taken.take(9)
        assert one.letter == entry.letter
        made = Record(letter.letter_id, "edited", time.time(), "typing error", by="me", edit=Edit(2, 1, "p", fixed))
        await taken.record([made])
    async with store.replaying(Selection(), 0, "test") as taken:
        (one,) = await taken.take(9)
        assert one.edited == fixed
        await taken.record([Record(letter.letter_id, "failed", time.time(), f"exhausted: {SECRET}", "ValueError")])
    assert not holds(path.with_name("l.jsonl.state"))
    bench.keys.erase("17")
    (entry,) = (await store.latest(Selection(), 0)).entries
    assert "its subject was erased" in entry.unreadable
    assert [one.what for one in (await store.history([letter.letter_id]))[letter.letter_id]] == ["edited", "failed"]


async def test_the_letter_of_an_erased_subject_can_still_be_written(bench: Bench, tmp_path: Path) -> None:
    bench.keys.erase("17")
    ((letter, _),) = await buried(bench, tmp_path / "l.jsonl", flight(event()))
    assert decoded(letter, bench.codec).event == event().on_one_line()
    with pytest.raises(SubjectErased):
        bench.codec.check(event())
