"""A journal behind a codec: its files hold no content, and what cannot be read is not passed over in silence."""

from pathlib import Path

import asyncpg
import pytest

from tests.support.codecs import Keys
from unlost.listener.core.errors import InvalidEvent
from unlost.listener.core.event import parse
from unlost.listener.shipped import key_file
from unlost.ops.kit.command import PathOrUrl
from unlost.producer.app.opening import open_journal
from unlost.producer.journal.coded import is_coded_body
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import Journal, JournalError
from unlost.producer.journal.postgres import remains as in_server
from unlost.producer.journal.publications import Publication, lines_of
from unlost.producer.journal.sqlite import remains as in_file
from unlost.producer.publish.accept import publication

SECRET = "jane.doe@example.org"
LARGEST = 10_000


class Place:
    def __init__(self, address: str, directory: Path) -> None:
        self.address = PathOrUrl(address)
        self.keys = Keys(directory / "keys.json")

    def opened(self, *, encrypted: bool = True) -> Journal:
        return open_journal(self.address, LARGEST, self.keys.codec_of() if encrypted else None)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    (tmp_path / "keys").mkdir()
    address = str(tmp_path / "journal") if request.param == "sqlite" else request.getfixturevalue("database_url")
    return Place(address, tmp_path / "keys")


def event(event_id: str, customer: str = "17", space: str = "") -> Publication:
    body = f'{{"event_id":"{event_id}","payload":{{{space}"mail":"{SECRET}","customer":{customer}}}}}'
    return publication(body.encode(), max_bytes=LARGEST)


def holds(directory: Path) -> bool:
    return any(SECRET.encode() in file.read_bytes() for file in directory.glob("journal*"))


async def test_the_journal_holds_no_content(place: Place, tmp_path: Path) -> None:
    journal = place.opened()
    written = journal.append([[event("a")], lines_of([event("b"), event("c", "18")])], 1.0)
    assert [one.body for one in written.entries] == [event("a").body, event("b").body, event("c", "18").body]
    assert [one.body for one in journal.read(0, 9)] == [event("a").body, event("b").body, event("c", "18").body]
    assert not damaged_of(journal.read(0, 9))
    journal.close()
    if place.address.path is not None:
        assert not holds(tmp_path)
    else:
        connection = await asyncpg.connect(place.address.reveal())
        bodies = [row["body"] for row in await connection.fetch("SELECT body FROM producer_journal.entries")]
        await connection.close()
        assert len(bodies) == 3
        assert all(map(is_coded_body, bodies))


def test_a_known_event_differs_from_a_conflict_by_its_plain_content(place: Place) -> None:
    journal = place.opened()
    journal.append([[event("a")]], 1.0)
    again = [event("a"), event("a", space=" "), event("a", "18")]
    assert [one.status for one in journal.append([again], 1.0).placed] == ["duplicate", "duplicate", "conflict"]
    journal.close()


def test_an_erased_subject_is_sent_as_what_becomes_a_letter(place: Place) -> None:
    journal = place.opened()
    journal.append([[event("a"), event("b", "18")]], 1.0)
    place.keys.erase("17")
    first, second = entries = journal.read(0, 9)
    assert not damaged_of(entries)
    assert second.body == event("b", "18").body
    with pytest.raises(InvalidEvent, match="its subject was erased") as caught:
        parse(first.body, max_bytes=LARGEST)
    assert caught.value.event_id == "a"
    journal.append([[event("c")]], 1.0)  # accepted, so it is kept; listeners bury it
    assert journal.read(2, 9)[0].body == event("c").body
    journal.close()


def test_entries_of_a_subject_are_counted_beside_the_producer(place: Place) -> None:
    journal = place.opened()
    journal.append([[event("a"), event("b", "18"), event("c")]], 1.0)
    mark = f'"sub":"{key_file.read(place.keys.path).place_of("17")}"'.encode()
    if place.address.path is not None:
        assert in_file.entries_with(place.address.path, mark) == 2
        with pytest.raises(JournalError, match="there is no journal"):
            in_file.entries_with(place.address.path.with_name("none"), mark)
    else:
        assert in_server.entries_with(place.address.reveal(), mark) == 2
    journal.close()


def test_a_missing_key_stops_reading(place: Place) -> None:
    journal = place.opened()
    journal.append([[event("a")]], 1.0)
    journal.close()
    place.keys = Keys(place.keys.path)
    place.keys.rotate()
    other = place.keys.path.read_text().replace('"k1"', '"k2"')
    place.keys.path.write_text(other)
    journal = place.opened()
    with pytest.raises(JournalError, match="the key 'k1', which is not in the key file"):
        journal.read(0, 9)
    journal.close()


def test_a_body_that_another_key_of_this_name_encoded_is_damage(place: Place) -> None:
    """Its bytes on the disk are as they were stored."""
    journal = place.opened()
    journal.append([[event("a")]], 1.0)
    journal.close()
    key_file.write(place.keys.path, key_file.fresh("k1"))
    journal = place.opened()
    entries = journal.read(0, 9)
    assert damaged_of(entries) == entries
    journal.close()


def test_a_producer_without_the_codec_does_not_start(place: Place) -> None:
    journal = place.opened()
    journal.append([[event("a")]], 1.0)
    journal.close()
    with pytest.raises(JournalError, match="encrypted events: set CODEC"):
        place.opened(encrypted=False)
    place.opened().close()


def test_no_published_event_looks_encrypted(place: Place) -> None:
    journal = place.opened(encrypted=False)
    tricky = publication(b'{"unlost":"enc","kid":"k1","nonce":"","data":""}', max_bytes=LARGEST)
    journal.append([[tricky]], 1.0)
    journal.close()
    place.opened(encrypted=False).close()
    journal = place.opened()
    assert journal.read(0, 9)[0].body == tricky.body
    journal.append([[Publication("z", tricky.digest, tricky.body.replace(tricky.event_id.encode(), b"z"))]], 1.0)
    assert b'"z"' in journal.read(1, 9)[0].body
    journal.close()
