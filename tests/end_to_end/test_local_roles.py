"""``unlost up``: no daemon is a superuser, and data that an earlier version made goes on to work."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from urllib.parse import unquote, urlsplit

import httpx
import psutil
import pytest
import redis
from redis.exceptions import NoPermissionError

from unlost.ops.system.layout import Layout, free_ports
from unlost.ops.system.reserved import reserved
from unlost.ops.system.system import System

HANDLER = "tests.end_to_end.test_local_roles:handle"
USERS = "select distinct usename || '/' || rolsuper from pg_stat_activity a join pg_roles on usename = rolname"


async def handle(event, connection) -> None:
    await connection.execute("insert into public.orders (id) values ($1)", event.event_id)


@contextmanager
def running(layout: Layout, *, narrow: bool) -> Iterator[System]:
    with reserved(layout):
        system = System(layout, lambda _: None, Event(), by_socket=True, narrow=narrow)
        try:
            system.start()
            yield system
        finally:
            system.stop()


@pytest.fixture
def layout() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(prefix="unlost-test-") as directory:
        Path(directory).chmod(0o711)
        ports = free_ports(1, console=True)
        yield Layout(Path(directory), ports, extra={"HANDLER": HANDLER, "HANDLE_ATTEMPTS": "1"})


def until(look: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def publish(layout: Layout, event_id: str) -> None:
    event = {"event_id": event_id, "payload": {}}
    httpx.post(f"{layout.producer_url}/publish", json=event, trust_env=False).raise_for_status()


def no_secret_in_lists_and_environments_of_processes(system: System) -> bool:
    assert system.roles is not None
    urls = (system.postgres.url, system.roles.listener_url, system.roles.console_url, system.valkey.url_of_group)
    passwords = [unquote(urlsplit(url).password or "") for url in urls]
    assert all(len(one) > 20 for one in passwords)
    processes = psutil.Process().children(recursive=True)
    shown = [" ".join((*one.cmdline(), *one.environ().values())) for one in processes]
    assert len(shown) > 6
    return not [one for one in shown if any(password in one for password in passwords)]


def rows(system: System) -> str:
    return system.postgres.sql("select string_agg(id, ',' order by id) from orders", "unlost")


def shipped_letters(layout: Layout) -> int:
    """How many letters the fleet's list has: a replay takes those."""
    letters = httpx.get(f"{layout.console_url}/api/letters", trust_env=False).json()["letters"]
    return len([one for one in letters if not one.get("unshipped")])


@pytest.mark.timeout(180)
def test_daemons_have_few_rights_and_data_of_before_goes_on_to_work(layout: Layout) -> None:
    with running(layout, narrow=False) as system:
        system.postgres.sql("create table orders (id text primary key)", "unlost")
        publish(layout, "a")
        until(lambda: rows(system) == "a")
    with (
        running(layout, narrow=True) as system,
        httpx.Client(base_url=str(layout.console_url), trust_env=False) as console,
    ):
        publish(layout, "b")
        until(lambda: rows(system) == "a,b")
        console.get("/api/events").raise_for_status()
        users = system.postgres.sql(f"{USERS} where application_name like 'unlost%'", "unlost").split()
        assert sorted(users) == ["unlost_console/false", "unlost_listener/false"]
        assert no_secret_in_lists_and_environments_of_processes(system)
        claims = redis.Redis.from_url(system.valkey.url_of_group)
        administrator = redis.Redis.from_url(system.valkey.url)
        mine = {one["user"] for one in administrator.client_list()}
        assert mine >= {"claims"}
        with pytest.raises(NoPermissionError):
            claims.flushall()

        system.postgres.sql("drop table orders", "unlost")
        publish(layout, "c")
        until(lambda: shipped_letters(layout) == 1)
        system.postgres.sql("create table orders (id text primary key)", "unlost")
        own = {"x-unlost-console": "1"}
        replay = console.post("/api/replays", json={"everything": True}, headers=own)
        replay.raise_for_status()
        until(lambda: console.get("/api/replays").json()["replays"][0]["ended_at"] is not None)
        assert console.get("/api/replays").json()["replays"][0]["state"] == "done", json.dumps(
            console.get("/api/replays").json()
        )
        assert rows(system) == "c"
