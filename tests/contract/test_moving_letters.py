"""Letters move between systems with the versions that people made of their events."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.letters import letter, mark, write
from unlost.dlq.commands.cli import main as dlq
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate

FIRST, SECOND = (f'[{{"op": "replace", "path": "/payload/n", "value": {n}}}]' for n in (2, 3))


def ran(*words: object, code: int = 0, database_url: str = "") -> Result:
    env = {"DATABASE_URL": database_url or None}
    result = CliRunner().invoke(dlq, [str(word) for word in words], env=env)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = write(tmp_path / "letters.jsonl", [letter("edited"), letter("plain"), letter("stored")])
    mark(path, "stored", "resolved", "stored")
    for patch in (FIRST, SECOND):
        ran("edit", "edited", path, "--patch", patch, "--why", "no such sku", "--yes")
    return path


def versions(*words: object, database_url: str = "") -> dict[str, tuple[object, list[int]]]:
    found = {}
    for name in ("edited", "plain"):
        (one,) = json.loads(ran("show", name, *words, "--json", database_url=database_url).stdout)
        newest = one.get("edited", one["event"])["payload"]["n"]
        found[name] = newest, [record["version"] for record in one["history"] if record["what"] == "edited"]
    return found


WHOLE = {"edited": (3, [2, 3]), "plain": (1, [])}


async def test_versions_go_from_a_file_into_a_list_and_on_into_another_file(
    path: Path, database_url: str, tmp_path: Path
) -> None:
    database = Database(database_url)
    await migrate(database)
    await database.close()

    def work() -> None:
        out, again = tmp_path / "out.jsonl", tmp_path / "again.jsonl"
        mark(out, "plain", "edited")  # of an export that was here before
        ran("export", path, "--as", "letters", "--output", out)
        assert versions(out) == WHOLE
        assert "added 3 letters" in ran("import", out, database_url=database_url).stdout
        assert "added 0 letters" in ran("import", out, database_url=database_url).stdout
        assert versions(database_url=database_url) == WHOLE
        ran("export", "--as", "letters", "--output", again, database_url=database_url)
        assert versions(again) == WHOLE
        (one,) = json.loads(ran("show", "stored", again, "--json").stdout)
        assert one["state"]["status"] == "open", "another system has no row of it"

    await asyncio.to_thread(work)


def test_standard_output_has_no_room_for_versions_and_says_so(path: Path) -> None:
    told = ran("export", path, "--as", "letters", code=1)
    assert "the versions of 1 edited letters are left out; --output FILE keeps them" in told.stderr
    assert len(told.stdout.splitlines()) == 3
    assert ran("export", path, "--as", "letters", "--id", "plain").stderr == "exported 1 letters\n"
    assert "1 were edited since, --as letters keeps their versions" in ran("export", path).stderr
