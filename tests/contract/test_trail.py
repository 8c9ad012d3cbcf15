"""The trail: a chain in PostgreSQL or in a file; whatever is changed, taken out or put in breaks it."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import asyncpg
import msgspec
import pytest

from unlost.dlq.record.trail import Act, BrokenTrail, Chain, TrailEntry, append_to, read
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.trail import TableTrail

pytestmark = pytest.mark.database("migrated")


def act(number: int) -> Act:
    return Act("ana", "console", "archived", f"id order-{number} \0\ud800", "a test", "1 letter")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database(database_url, connections=4)
    await migrate(made)
    yield made
    await made.close()


def broken(links: Iterable[TrailEntry]) -> str:
    chain = Chain()
    return next((why for one in links if (why := chain.broken_by(one))), "")


async def links_of(trail: TableTrail) -> list[TrailEntry]:
    return [one async for page in trail.each() for one in page]


async def test_entries_of_several_writers_make_one_chain(database: Database) -> None:
    trail = TableTrail(database)
    await asyncio.gather(*(trail.append(act(number)) for number in range(20)))
    links = await links_of(trail)
    assert ([one.number for one in links], broken(links)) == (list(range(1, 21)), "")
    assert [one.number for one in await trail.latest(2)] == [20, 19]


@pytest.mark.parametrize(
    ("harm", "shown"),
    [
        ("update unlost.trail set who = 'eve' where number = 2", "entry 2 was changed"),
        ("update unlost.trail set at = at + interval '1 microsecond' where number = 3", "entry 3 was changed"),
        ("delete from unlost.trail where number = 2", "entry 2 is missing; 3 follows"),
        ("update unlost.trail set hash = md5('') where number = 1", "entry 1 was changed"),
        ("update unlost.trail set previous = '' where number = 2", "entry 2 does not follow the one before it"),
    ],
)
async def test_harm_is_refused_and_breaks_the_chain_if_the_owner_forces_it(
    database: Database, database_url: str, harm: str, shown: str
) -> None:
    trail = TableTrail(database)
    for number in range(3):
        await trail.append(act(number))
    owner = await asyncpg.connect(database_url)
    for refused in (harm, "truncate unlost.trail"):
        with pytest.raises(asyncpg.PostgresError, match="append-only"):
            await owner.execute(refused)
    assert broken(await links_of(trail)) == ""
    await owner.execute("alter table unlost.trail disable trigger append_only")
    await owner.execute(harm)
    await owner.close()
    assert broken(await links_of(trail)) == shown


def test_a_file_has_a_chain_of_its_own_and_survives_a_torn_line(tmp_path: Path) -> None:
    file = tmp_path / "trail.jsonl"
    for number in range(2):
        append_to(file, act(number))
    with file.open("ab") as torn:
        torn.write(b'{"number":3,"at":')
    assert broken(read(file)) == ""
    assert file.stat().st_mode & 0o077 == 0
    append_to(file, act(2))
    assert ([one.number for one in read(file)], broken(read(file))) == ([1, 2, 3], "")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join((lines[0], lines[2])))
    assert broken(read(file)) == "entry 2 is missing; 3 follows"
    first = msgspec.structs.replace(msgspec.json.decode(lines[0], type=TrailEntry), result="2 letters")
    file.write_bytes(msgspec.json.encode(first) + b"\n" + lines[1])
    assert broken(read(file)) == "entry 1 was changed"
    file.write_bytes(b"nonsense\n")
    with pytest.raises(BrokenTrail, match="line 1"):
        broken(read(file))
    with file.open("wb") as endless:
        endless.truncate(50_000_000)
    tracemalloc.start()
    with pytest.raises(BrokenTrail, match="line 1"):
        broken(read(file))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


async def test_a_file_comes_into_the_chain_once_in_order_whoever_merges_it(database: Database, tmp_path: Path) -> None:
    trail, file = TableTrail(database), tmp_path / "failed_events.jsonl.trail"
    await trail.append(act(0))
    of_file = [append_to(file, act(number)) for number in (1, 2)]
    assert sum(await asyncio.gather(*(trail.merge(file) for _ in range(4)))) == 2
    await trail.append(act(3))
    of_file.append(append_to(file, act(4)))
    assert [await trail.merge(file), await trail.merge(file)] == [1, 0]
    links = await links_of(trail)
    assert broken(links) == ""
    assert [one.about.split()[1] for one in links] == [f"order-{number}" for number in range(5)]
    merged = [one for one in links if one.origin.startswith("console, from failed_events.jsonl.trail, entry ")]
    assert [(one.at, one.origin[-64:]) for one in merged] == [(one.at, one.hash) for one in of_file]


async def test_a_changed_file_is_not_merged(database: Database, tmp_path: Path) -> None:
    trail, file = TableTrail(database), tmp_path / "a.trail"
    for number in range(3):
        append_to(file, act(number))
    file.write_bytes(file.read_bytes().replace(b"order-2", b"order-9"))
    with pytest.raises(BrokenTrail, match="entry 3 was changed"):
        await trail.merge(file)
    assert await links_of(trail) == []
