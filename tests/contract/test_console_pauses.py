"""The console's pauses: an unknown listener is refused, and a missing right is answered as one."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
from click.testing import CliRunner, Result
from starlette.requests import Request
from starlette.responses import Response

from unlost.dlq.store.port import Unreachable
from unlost.listener.core.errors import NotPermitted
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import migrate
from unlost.listener.store.postgres.pauses import Doubt, PostgresPauses
from unlost.ops.console.answers import answering
from unlost.ops.console.pause_routes import PauseRoutes
from unlost.ops.console.trail import ConsoleTrail
from unlost.ops.kit.access.middleware import PASSED
from unlost.ops.upkeep.pause import pause

pytestmark = pytest.mark.database("migrated")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.close()


def asking(body: object) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_a_listener_that_has_not_reported_is_not_paused(database: Database) -> None:
    routes = PauseRoutes(database, ConsoleTrail.__new__(ConsoleTrail))
    answer = await answering(routes.pause)(asking({"kind": "listener", "name": "typo", "why": "disk"}))
    assert (answer.status_code, "is called 'typo'" in bytes(answer.body).decode()) == (404, True)
    assert json.loads(bytes((await routes.pauses(asking({}))).body)) == {"pauses": []}


async def test_a_route_that_no_listener_has_is_refused_with_those_that_are_known(database: Database) -> None:
    routes = PauseRoutes(database, ConsoleTrail.__new__(ConsoleTrail))
    pausing = {"kind": "route", "name": "reserv", "why": "disk"}
    answer = await answering(routes.pause)(asking(pausing))
    assert (answer.status_code, "the routes are: none" in bytes(answer.body).decode()) == (404, True)
    for token, listens, names in (
        ("a", True, ("reserve", "refund")),
        ("b", True, ("reserve",)),
        ("r", False, ("old",)),
    ):
        membership = PostgresMembership(database, token=token, instance_id=token, listens=listens)
        membership.routes = names
        await membership.declare(frozenset({"x"}))
    answer = await answering(routes.pause)(asking(pausing))
    assert "the routes are: refund, reserve" in bytes(answer.body).decode()
    kept = PostgresPauses(database)
    assert await kept.doubt("route", "reserve") == Doubt()
    assert (await kept.doubt("route", "old")).refuses, "a replay heeds no pause"


async def test_while_listeners_of_an_older_version_live_a_route_is_not_refused(
    database: Database, database_url: str
) -> None:
    membership = PostgresMembership(database, token="old", instance_id="old-one")
    await membership.declare(frozenset({"x"}))
    async with database.acquire("as an older version does") as connection:
        await connection.execute("UPDATE unlost.listeners SET routes = NULL, seen_at = now() + interval '1 hour'")
    given = ["route", "reserve", "--why", "incident", "--database-url", database_url]
    done = await asyncio.to_thread(CliRunner().invoke, pause, given)
    assert (done.exit_code, "of a version that reports no routes: old-one" in done.stderr) == (0, True)
    kept = PostgresPauses(database)
    assert [one.name for one in await kept.now()] == ["reserve"]
    assert (await kept.doubt("listener", "reserve")).refuses
    request = asking({"kind": "route", "name": "refund", "why": "disk"})
    request.scope[PASSED] = SimpleNamespace(identity=None)
    answer = await answering(PauseRoutes(database, AsyncMock()).pause)(request)
    assert (answer.status_code, "old-one" in json.loads(bytes(answer.body))["warning"]) == (200, True)
    async with database.acquire("as one that ended") as connection:
        await connection.execute("UPDATE unlost.listeners SET seen_at = now() - interval '10 seconds'")
    assert (await kept.doubt("route", "reserve")).refuses


async def test_the_command_refuses_an_unknown_route_unless_forced(database: Database, database_url: str) -> None:
    def run(*words: str) -> Result:
        given = ["route", "reserve", "--why", "incident", "--database-url", database_url, *words]
        return CliRunner().invoke(pause, given)

    refused = await asyncio.to_thread(run)
    assert (refused.exit_code, "--anyway" in refused.stderr) == (2, True)
    assert await PostgresPauses(database).now() == []
    assert (await asyncio.to_thread(run, "--anyway")).exit_code == 0
    assert [one.name for one in await PostgresPauses(database).now()] == ["reserve"]


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_missing_right_names_the_command_that_grants_it(wrapped: bool) -> None:
    async def refused(request: Request) -> Response:
        lacking = NotPermitted("pausing: a right is missing")
        if wrapped:
            raise Unreachable(f"the fleet's list cannot be used: {lacking}") from lacking
        raise lacking

    answer = await answering(refused)(asking({}))
    said = bytes(answer.body).decode()
    assert answer.status_code == 503
    assert "--grants-console ROLE" in said
    assert "does not answer" not in said
