"""A listener obeys the pauses that stand in PostgreSQL: its own, and those of its handler's routes."""

from collections.abc import Mapping

import asyncpg
import pytest

from unlost.listener.app.pausing import Pausing
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import Fact, PauseBegan, PauseEnded
from unlost.listener.store.postgres import pauses as pauses_module
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.pauses import PostgresPauses

pytestmark = pytest.mark.database("migrated")


async def test_pauses_are_obeyed_until_they_end_and_while_postgres_does_not_answer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(database_url)
    await migrate(database)
    kept, facts, held = PostgresPauses(database), list[Fact](), list[Mapping[str, str]]()
    pausing = Pausing(kept, instance="a", routes=lambda: ["reserve"], hold=held.append, facts=facts.append)
    await pausing.look()
    assert (pausing.listener, pausing.routes, held) == ("", {}, [])
    assert await kept.begin("listener", "a", by="ana", why="disk")
    assert not await kept.begin("listener", "a", by="bob", why="again")
    for kind, name in (("listener", "b"), ("route", "reserve"), ("route", "other")):
        assert await kept.begin(kind, name, by="ana", why="incident")  # type: ignore[arg-type]
    monkeypatch.setattr(pauses_module, "MOST", 4)
    assert not await kept.begin("listener", "c", by="ana", why="too many")
    await pausing.look()
    assert (pausing.listener, pausing.routes) == ("paused by ana: disk", {"reserve": "paused by ana: incident"})
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE unlost.pauses RENAME TO gone")
    with pytest.raises(Transient):
        await pausing.look()
    assert pausing.listener
    await connection.execute("ALTER TABLE unlost.gone RENAME TO pauses")
    await connection.close()
    assert await kept.end("route", "reserve")
    assert not await kept.end("route", "reserve")
    assert await kept.end("listener", "a")
    await pausing.look()
    assert (pausing.listener, held) == ("", [{"reserve": "paused by ana: incident"}, {}])
    assert [fact for fact in facts if isinstance(fact, PauseEnded)] in (
        [PauseEnded("route", "reserve"), PauseEnded("listener", "a")],
        [PauseEnded("listener", "a"), PauseEnded("route", "reserve")],
    )
    assert PauseBegan("listener", "a", "ana", "disk") in facts
    await database.close()
