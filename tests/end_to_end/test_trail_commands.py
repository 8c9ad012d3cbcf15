"""Every command that changes something writes the trail; ``unlost trail`` lists and verifies it."""

import asyncio
import json
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner, Result

from tests.support.letters import letter, write
from unlost.dlq.commands.cli import main as dlq
from unlost.dlq.record.trail import read, trail_beside
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.cli import main


def ran(group, *arguments: str, **environment: str) -> Result:
    done = CliRunner().invoke(group, arguments, env=environment)
    assert done.exit_code == 0, done.output
    return done


def test_without_postgresql_the_trail_is_beside_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "failed_events.jsonl", [letter("a"), letter("b")])
    ran(dlq, "archive", str(file), "--id", "a", "--why", "a test order")
    ran(dlq, "restore", str(file), "--all")
    ran(dlq, "compact", str(file))
    entries = list(read(trail_beside(file)))
    assert [(one.what, one.result) for one in entries] == [
        ("archived", "1 letter"), ("restored", "1 letter"), ("compacted", "kept 2 letters, dropped 0"),
    ]  # fmt: skip
    assert (entries[0].about, entries[0].why) == (f"ids=a in {file}", "a test order")
    assert "@" in entries[0].who
    shown = ran(main, "trail", "list", str(trail_beside(file))).output
    assert "archived: ids=a" in shown
    assert "3 entries; the chain is whole" in ran(main, "trail", "verify", str(trail_beside(file))).output


async def test_with_postgresql_it_is_one_chain_of_the_group(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    await migrate(database)
    await database.close()
    await _in_thread(tmp_path, database_url)
    owner = await asyncpg.connect(database_url)
    await owner.execute("alter table unlost.trail disable trigger append_only; update unlost.trail set who = 'eve'")
    await owner.close()
    await _broken_in_thread(database_url)


async def _in_thread(tmp_path: Path, database_url: str) -> None:
    def work() -> None:
        at = {"DATABASE_URL": database_url}
        file = write(tmp_path / "other.jsonl", [letter("a")])
        ran(dlq, "import", str(file), **at)
        ran(dlq, "quarantine", "--id", "a", "--why", "it kills", **at)
        ran(dlq, "retention", "--older-than", "1d", **at)
        listed = [json.loads(line) for line in ran(main, "trail", "list", "--json", **at).output.splitlines()]
        assert [one["what"] for one in listed] == ["imported", "quarantined", "deleted"]
        assert "3 entries; the chain is whole" in ran(main, "trail", "verify", "--last", listed[0]["hash"], **at).output
        cut = CliRunner().invoke(main, ["trail", "verify", "--last", "0" * 64], env=at)
        assert (cut.exit_code, "was cut off" in cut.output) == (1, True)
        assert not trail_beside(file).exists()

    await asyncio.to_thread(work)


async def test_after_an_outage_the_file_comes_into_the_chain(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    await migrate(database)
    await database.close()
    file = write(tmp_path / "away.jsonl", [letter("a"), letter("b")])

    def work() -> None:
        at = {"DATABASE_URL": database_url}
        ran(dlq, "archive", str(file), "--id", "a", "--why", "while it was away")
        ran(dlq, "archive", str(file), "--id", "b", "--why", "later", **at)
        listed = [json.loads(line) for line in ran(main, "trail", "list", "--json", **at).output.splitlines()]
        assert [one["why"] for one in listed] == ["while it was away", "later"]
        assert "0 entries merged" in ran(main, "trail", "merge", str(trail_beside(file)), **at).output
        trail_beside(file).write_bytes(trail_beside(file).read_bytes().replace(b"archived", b"restored"))
        assert "entry 1 was changed" in ran(dlq, "restore", str(file), "--all", **at).output
        assert "3 entries; the chain is whole" in ran(main, "trail", "verify", **at).output

    await asyncio.to_thread(work)


async def _broken_in_thread(database_url: str) -> None:
    verify = ["trail", "verify"]
    done = await asyncio.to_thread(lambda: CliRunner().invoke(main, verify, env={"DATABASE_URL": database_url}))
    assert (done.exit_code, "entry 1 was changed" in done.output) == (1, True)


def test_tokens_and_groups_of_a_journal_leave_their_trail(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    secret = ran(main, "token", "create", "shop", "--rights", "publish", TOKENS_FILE=str(tokens)).output.strip()
    ran(main, "token", "revoke", "shop", TOKENS_FILE=str(tokens))
    entries = list(read(trail_beside(tokens)))
    assert [(one.what, one.about) for one in entries] == [
        ("token created", "shop, publish, groups all"), ("token revoked", "shop"),
    ]  # fmt: skip
    assert secret not in trail_beside(tokens).read_text()


@pytest.mark.parametrize("content", [b"nonsense\n", b'{"number":1}\n'])
def test_a_trail_that_is_none_is_put_aside_by_hand_and_stops_no_change(tmp_path: Path, content: bytes) -> None:
    tokens = tmp_path / "tokens.jsonl"
    trail_beside(tokens).write_bytes(content)
    done = CliRunner().invoke(main, ["token", "create", "shop"], env={"TOKENS_FILE": str(tokens)})
    assert done.exit_code == 0
    assert "the trail cannot be written" in done.output
    assert trail_beside(tokens).read_bytes() == content


def test_a_route_is_paused_and_resumed_by_command(database_url: str) -> None:
    at = {"DATABASE_URL": database_url}
    ran(main, "migrate", **at)
    assert "nothing is paused" in ran(main, "pauses", **at).output
    nowhere = CliRunner().invoke(main, ["pause", "route", "reserve", "--why", "x"], env=at)
    assert (nowhere.exit_code, "has reported a route called 'reserve'" in nowhere.output) == (2, True)
    reported = ran(main, "pause", "route", "reserve", "--anyway", "--why", "incident 7", **at).output
    assert "route reserve is paused" in reported
    again = CliRunner().invoke(main, ["pause", "route", "reserve", "--anyway", "--why", "x"], env=at)
    assert (again.exit_code, "paused already" in again.output) == (1, True)
    unknown = CliRunner().invoke(main, ["pause", "listener", "nobody", "--why", "x"], env=at)
    assert (unknown.exit_code, "is called 'nobody'" in unknown.output) == (2, True)
    assert ": incident 7" in ran(main, "pauses", **at).output
    assert "goes on" in ran(main, "resume", "route", "reserve", **at).output
    assert CliRunner().invoke(main, ["resume", "route", "reserve"], env=at).exit_code == 1
    acts = [json.loads(line) for line in ran(main, "trail", "list", "--json", **at).output.splitlines()]
    assert [(one["what"], one["about"], one["why"]) for one in acts] == [
        ("paused", "route reserve", "incident 7"), ("resumed", "route reserve", ""),
    ]  # fmt: skip
