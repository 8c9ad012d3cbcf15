"""Which server a database connects to, and the error if none accepts. No real server is used."""

import asyncpg
import pytest

from tests.support.fakes import as_a
from unlost.listener.core.errors import Misconfigured, Transient
from unlost.listener.store.postgres.address import public_address, servers_of
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import most_telling

PAIR = "postgresql://u:sesame@a:1,b:2/d"
A, B = servers_of(PAIR)


class Servers(Database):
    """Servers in ``down`` fail with their given error; the others accept."""

    def __init__(self, url: str = PAIR, **down: BaseException) -> None:
        super().__init__(url)
        self._keeps_statements = True  # no connection here can be asked
        self.down = {url: down[name] for url, name in ((A, "a"), (B, "b"), (url, "all")) if name in down}
        self.asked: list[str] = []

    async def _connect_to(self, url: str) -> Connection:
        self.asked.append(url)
        if url in self.down:
            raise self.down[url]
        return as_a(Connection, url)


async def test_the_server_that_answered_last_is_asked_first():
    servers = Servers(a=ConnectionRefusedError("down"))
    assert await servers.connect_alone() == B
    servers.down = {}
    assert await servers.connect_alone() == B
    servers.down = {B: ConnectionRefusedError("down")}
    assert await servers.connect_alone() == A
    assert servers.asked == [A, B, B, B, A]


async def test_where_none_lets_us_in_the_error_names_each():
    servers = Servers(a=ConnectionRefusedError("refused"), b=TimeoutError())
    with pytest.raises(Transient) as failed:
        await servers.open()
    said = "connecting to PostgreSQL at a:1,b:2/d: ConnectionError: a:1/d: refused; b:2/d: no answer in time"
    assert str(failed.value) == said


@pytest.mark.parametrize("state", ["28P01", "28000", "3D000"])
async def test_a_login_that_is_refused_is_a_mistake_and_not_tried_again(state: str):
    error = asyncpg.PostgresError.new({"C": state, "M": "no such user"})
    with pytest.raises(Misconfigured) as failed:
        await Servers("postgresql://u:sesame@a/d", all=error).open()
    assert str(failed.value) == "DATABASE_URL: PostgreSQL at a/d refuses: no such user"


async def test_a_server_that_starts_is_tried_again():
    error = asyncpg.PostgresError.new({"C": "57P03", "M": "starting up"})
    with pytest.raises(Transient, match=r"^connecting to PostgreSQL at a/d: starting up"):
        await Servers("postgresql://u:sesame@a/d", all=error).open()


@pytest.mark.parametrize(
    ("errors", "shown"),
    [
        ([OSError("x")], 0),
        ([TimeoutError(), TimeoutError()], 0),
        ([OSError("x"), asyncpg.PostgresError("no"), asyncpg.PostgresError("neither")], 1),
    ],
)
def test_one_error_stands_for_all(errors: list[BaseException], shown: int):
    assert most_telling({str(number): error for number, error in enumerate(errors)}) is errors[shown]


def test_an_error_that_says_nothing_is_named():
    assert str(most_telling({"a": OSError(), "b": TimeoutError()})) == "a: OSError; b: no answer in time"


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://u:p@a:1/d", ["postgresql://u:p@a:1/d"]),
        ("postgresql://a:1,b/d?x=1", ["postgresql://a:1/d?x=1", "postgresql://b/d?x=1"]),
        (PAIR, ["postgresql://u:sesame@a:1/d", "postgresql://u:sesame@b:2/d"]),
        ("postgresql://u,v:p@a:1/d", ["postgresql://u,v:p@a:1/d"]),
        ("postgresql:///d?host=/run/pg", ["postgresql:///d?host=/run/pg"]),
    ],
)
def test_each_server_has_an_address(url: str, servers: list[str]):
    assert servers_of(url) == servers


def test_an_empty_host_is_refused():
    with pytest.raises(ValueError, match="a host is empty: write host:port,host:port"):
        servers_of("postgresql://a:1,/d")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://u:sesame@a:1,b:2/d", "a:1,b:2/d"),
        ("postgresql:///d?user=u&password=sesame&host=/run/pg", "/run/pg/d"),
        ("postgresql:///d", "/d"),
        ("postgresql://[a", "an address that cannot be read"),
    ],
)
def test_a_place_is_named_without_its_password(url: str, place: str):
    assert public_address(url) == place
