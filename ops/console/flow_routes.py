"""The routes of the console for events that wait, events that are missing, and events of the last days."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from unlost.listener.app.openapi import LAST
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.reports import Reports
from unlost.ops.console.answers import json_answer, reading
from unlost.ops.console.history import Histories
from unlost.ops.console.query import ConsoleQueries
from unlost.ops.kit.access.middleware import redactor_for
from unlost.ops.kit.telemetry.http import whole_number
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.redact import Redactor

MOST_GAPS = 200
MOST_DAYS = 14
MOST_EFFECTS = 100


class FlowRoutes:
    """The routes."""

    def __init__(self, database: Database, queries: ConsoleQueries, redactor: Redactor) -> None:
        self._database = database
        self._redactor = redactor
        self._queries = queries
        self._histories = Histories(database)
        self.routes: list[BaseRoute] = [
            reading("/api/waiting", self.waiting),
            reading("/api/gaps", self.gaps),
            reading("/api/effects", self.effects),
            reading("/api/history", self.history),
        ]

    async def waiting(self, request: Request) -> Response:  # noqa: ARG002  Starlette's signature
        """Return the events that listeners hold for another attempt."""
        return json_answer(await self._queries.waiting())

    async def gaps(self, request: Request) -> Response:  # noqa: ARG002
        """Return the declared gaps, the latest first."""
        async with self._database.acquire("reading gaps") as connection:
            reports = Reports(connection, self._database.group)
            found, count = await reports.gaps(MOST_GAPS), await reports.count_gaps()
        return json_answer({"gaps": [one._asdict() for one in found], "count": count})

    async def effects(self, request: Request) -> Response:
        """Return effects of handlers, the newest first, and what waits for each host."""
        before = whole_number(request, "before", LAST, least=0, most=LAST)
        shown = redactor_for(request.scope, self._redactor)
        async with self._database.acquire("reading effects") as connection:
            reports = Reports(connection, self._database.group)
            found = await reports.effects(before, status=request.query_params.get("status") or None, limit=MOST_EFFECTS)
            hosts = await reports.effects_by_host()
        return json_answer(
            {"effects": [_tame(one, shown) for one in found], "hosts": [_tame(one, shown) for one in hosts]}
        )

    async def history(self, request: Request) -> Response:
        """Return how many events and letters there were in the last days."""
        return json_answer(await self._histories.of(whole_number(request, "days", 3, least=1, most=MOST_DAYS)))


def _tame(row: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Mask an address, whose path may be a secret too, and an answer that may quote the payload."""
    failure = row.get("failure")
    tame = {**row, "failure": None if failure is None else redactor.unknown(masked(failure))}
    return tame | {"url": address(row["url"], redactor)} if "url" in row else tame


def address(url: str, redactor: Redactor) -> str:
    """An address without its query; only scheme, host and port if fields are masked."""
    scheme, mark, rest = re.split(r"[?#]", masked(url), maxsplit=1)[0].partition("://")
    return f"{scheme}{mark}{rest.partition('/')[0] if redactor.masks else rest}"
