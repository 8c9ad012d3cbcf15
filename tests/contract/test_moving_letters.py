"""Letters move between systems with the versions that people made of their events."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support.letters import letter, mark, write
from unlost.dlq.commands.cli import main as dlq
from unlost.dlq.record.sidecar import sidecar_path
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate

pytestmark = pytest.mark.database("migrated")

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


def test_an_export_into_a_file_of_letters_is_refused_and_leaves_it_and_its_states(path: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.jsonl", [letter("other")])
    link = tmp_path / "link.jsonl"
    link.symlink_to(other)
    for read, output, why in (
        (other, path, "whose states are in"),
        (tmp_path / "absent.jsonl", path, "there is no dead-letter file"),
        (other, other, "is read by this export"),
        (other, link, "is read by this export"),
        (path, sidecar_path(path), "is read by this export"),
    ):
        before = {one: one.read_bytes() for one in (path, sidecar_path(path), other)}
        for kind in ("letters", "events"):
            assert why in ran("export", read, "--as", kind, "--output", output, code=2).stderr
        assert {one: one.read_bytes() for one in before} == before
    assert versions(path) == WHOLE


def test_states_of_an_output_that_is_gone_stay_until_it_is_written_anew(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    mark(out, "plain", "edited")
    ran("export", tmp_path / "absent.jsonl", "--as", "letters", "--output", out, code=2)
    assert sidecar_path(out).exists()
    ran("export", path, "--as", "letters", "--id", "plain", "--output", out)
    assert not sidecar_path(out).exists()


def test_standard_output_has_no_room_for_versions_and_says_so(path: Path) -> None:
    shown = ran("export", path, "--as", "letters", code=1)
    assert "the versions of 1 edited letters are left out; --output FILE keeps them" in shown.stderr
    assert len(shown.stdout.splitlines()) == 3
    assert ran("export", path, "--as", "letters", "--id", "plain").stderr == "exported 1 letters\n"
    assert "1 were edited since, --as letters keeps their versions" in ran("export", path).stderr
