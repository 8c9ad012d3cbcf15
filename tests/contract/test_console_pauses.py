"""The console's pauses: an unknown listener is refused, and a missing right is answered as one."""

import json
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import Response

from unlost.dlq.store.port import Unreachable
from unlost.listener.core.errors import NotPermitted
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.migrations import migrate
from unlost.ops.console.answers import answering
from unlost.ops.console.pause_routes import PauseRoutes
from unlost.ops.console.trail import ConsoleTrail


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.close()


def asking(body: object) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)  # type: ignore[arg-type]


async def test_a_listener_that_has_not_reported_is_not_paused(database: Database) -> None:
    routes = PauseRoutes(database, ConsoleTrail.__new__(ConsoleTrail))
    answer = await answering(routes.pause)(asking({"kind": "listener", "name": "typo", "why": "disk"}))
    assert (answer.status_code, "is called 'typo'" in bytes(answer.body).decode()) == (404, True)
    assert json.loads((await routes.pauses(asking({}))).body) == {"pauses": []}


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
