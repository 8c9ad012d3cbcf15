"""A DATABASE_URL that names several servers, tested on two real ones."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import running_postgres
from unlost.dlq.record.file import DeadLetterFile
from unlost.dlq.record.letter import letter_for_frame
from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.store.postgres.address import public_address, servers_of
from unlost.listener.store.postgres.database import Database
from unlost.ops.system.ports import free_port
from unlost.ops.system.postgres import PostgresServer

READ_WRITE = "?target_session_attrs=read-write"


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    with running_postgres() as one, running_postgres() as other:
        # Two clusters with one login, as a standby has its primary's.
        password = one.password_file.read_text()
        other.sql(f"alter role unlost password '{password}'")
        other.password_file.write_text(password)
        yield one, other


@pytest.fixture
def pair(both: tuple[PostgresServer, PostgresServer]) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    yield both
    for server in both:
        server.thaw()
        server.restart()
        make_read_only(server, "off")


def make_read_only(server: PostgresServer, value: str) -> None:
    """To clients, ``on`` makes it look like a standby, and ``off`` promotes it."""
    server.sql(f"alter system set default_transaction_read_only = {value}")
    server.sql("select pg_reload_conf()")


def url_of(*servers: PostgresServer, query: str = READ_WRITE) -> str:
    login = servers[0].url.rpartition("@")[0]
    return f"{login}@{','.join(f'127.0.0.1:{one.port}' for one in servers)}/unlost{query}"


async def port_of(database: Database) -> int:
    async with database.acquire() as connection:
        port: int = int(await connection.fetchval("show port"))
        return port


@pytest.mark.parametrize("query", ["", READ_WRITE])
async def test_the_first_that_answers_is_used(pair: tuple[PostgresServer, PostgresServer], query: str) -> None:
    one, other = pair
    database = Database(url_of(one, other, query=query))
    assert (await database.open())[0].isdigit()
    assert await port_of(database) == one.port
    one.stop()
    with pytest.raises(Transient):  # the statement that finds the connection broken
        await port_of(database)
    assert await port_of(database) == other.port
    one.start()
    assert await port_of(database) == other.port, "an open connection does not move by itself"
    await database.close()


async def test_a_server_that_is_silent_keeps_nobody_from_the_next(pair: tuple[PostgresServer, PostgresServer]) -> None:
    one, other = pair
    one.freeze()
    database = Database(url_of(one, other), connect_timeout=1.0)
    assert (await database.open())[0].isdigit()
    assert await port_of(database) == other.port
    await database.close()


async def test_after_a_promotion_the_new_primary_is_used(pair: tuple[PostgresServer, PostgresServer]) -> None:
    one, other = pair
    make_read_only(other, "on")
    database = Database(url_of(other, one))
    assert await port_of(database) == one.port
    make_read_only(one, "on")
    make_read_only(other, "off")
    with pytest.raises(Transient, match="25006"):
        async with database.acquire() as connection:
            await connection.execute("create table promoted (x int)")
    assert await port_of(database) == other.port
    await database.close()


async def test_where_none_takes_rows_it_is_said_of_each(pair: tuple[PostgresServer, PostgresServer]) -> None:
    one, other = pair
    make_read_only(one, "on")
    other.stop()
    with pytest.raises(Transient) as found:
        await Database(url_of(one, other)).open()
    said = str(found.value)
    assert f"127.0.0.1:{one.port},127.0.0.1:{other.port}/unlost" in said
    assert f"127.0.0.1:{one.port}/unlost: None of the hosts match" in said
    assert f"127.0.0.1:{other.port}/unlost:" in said
    assert "unlost:" + one.url.split(":")[2].split("@")[0] not in said


async def test_a_wrong_login_is_said_though_another_server_is_down(pair: tuple[PostgresServer, PostgresServer]) -> None:
    one, other = pair
    other.stop()
    wrong = url_of(other, one).replace("unlost:", "unlost:not", 1)
    with pytest.raises(Misconfigured, match="password authentication failed") as found:
        await Database(wrong).open()
    assert "unlost:" not in str(found.value).replace("/unlost", "")


@pytest.mark.parametrize(
    "command",
    [
        "unlost listener",
        "dlq replay --without-handler",
        "unlost migrate",
        "unlost retention --older-than 30d",
        "unlost audit",
    ],
)
def test_where_none_answers_at_start_a_command_ends_with_a_sentence(command: str, tmp_path: Path) -> None:
    file = DeadLetterFile(tmp_path / "letters.jsonl")
    letter = letter_for_frame(
        b"x", letter_id="a" * 28, message="m", event_id=None, at=1e9, instance="i", source="s", reason="stopped"
    )
    file.append([letter])
    file.close()
    url = f"postgresql://u:hidden@127.0.0.1:{free_port()},127.0.0.1:{free_port()}/db{READ_WRITE}"
    environment = {
        **os.environ, "DATABASE_URL": url, "DATABASE_ATTEMPTS": "2", "STARTUP_DELAY": "0.1",
        "DEAD_LETTER_FILE": str(tmp_path / "letters.jsonl"), "PORT": str(free_port()),
    }  # fmt: skip
    program, *options = command.split()
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), *options],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == (2 if command == "unlost audit" else 1), said
    assert command != "unlost listener" or said.count("attempt_failed") == 2
    assert "Traceback" not in said
    assert "Connect" in said
    assert "hidden" not in said


def test_reads_addresses() -> None:
    query = f"/db{READ_WRITE}"
    assert servers_of(f"postgresql://u:a,b@h:1,[::1]:2{query}") == [
        f"postgresql://u:a,b@h:1{query}", f"postgresql://u:a,b@[::1]:2{query}",
    ]  # fmt: skip
    assert servers_of("postgresql:///db?host=/a,/b") == ["postgresql:///db?host=/a,/b"]
    with pytest.raises(ValueError, match="empty"):
        servers_of("postgresql://a:1,,b:2/db")
    assert public_address("postgresql://u:p@a:1,b:2/db?password=x") == "a:1,b:2/db"
    assert public_address("postgresql://u:p/w@a:1,b:2/db") == "a:1,b:2/db"
    assert public_address("postgresql:///db?host=/run/pg") == "/run/pg/db"
    assert public_address("postgresql://[a/db") == "an address that cannot be read"


async def test_an_address_that_nobody_can_read_is_a_mistake() -> None:
    for address in ("a:1,,b:2", "a:x,b:y", "[a"):
        with pytest.raises(Misconfigured, match="DATABASE_URL is no address"):
            await Database(f"postgresql://u@{address}/db").open()
