"""The routes of the console that pause and resume a listener or a route."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from unlost.listener.core.pause import Paused
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.pauses import PostgresPauses
from unlost.ops.console.answers import body_of, by, changing, json_answer, reading
from unlost.ops.console.selecting import SelectionRefused
from unlost.ops.console.shelf import Unknown
from unlost.ops.console.trail import ConsoleTrail

MOST_WORDS = 500
MOST_NAME = 500


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The listener or route to pause or to resume. A pause needs a reason."""

    kind: Paused
    name: str
    why: str = ""


class PauseRoutes:
    """The routes."""

    def __init__(self, database: Database, trail: ConsoleTrail) -> None:
        self._pauses = PostgresPauses(database)
        self._trail = trail
        self.routes: list[BaseRoute] = [
            reading("/api/pauses", self.pauses),
            changing("/api/pauses", self.pause),
            changing("/api/pauses/end", self.resume),
        ]

    async def pauses(self, request: Request) -> Response:  # noqa: ARG002  Starlette's signature
        """Return the pauses that hold now."""
        return json_answer({"pauses": await self._pauses.now()})

    async def pause(self, request: Request) -> Response:
        """Pause a listener or a route."""
        wanted = await body_of(request, PauseRequest)
        why = wanted.why.strip()
        if not (1 <= len(why) <= MOST_WORDS and 1 <= len(wanted.name) <= MOST_NAME):
            raise SelectionRefused(f'"name", and "why" in 1 to {MOST_WORDS} characters, say what is paused and why')
        doubt = await self._pauses.doubt(wanted.kind, wanted.name)
        if doubt.refuses:
            raise Unknown(doubt.why)
        began = await self._pauses.begin(wanted.kind, wanted.name, by=by(request), why=why)
        answer = {"changed": began, "warning": doubt.why}
        return await self._noted(request, wanted, "paused", why, answer)

    async def resume(self, request: Request) -> Response:
        """End a pause."""
        wanted = await body_of(request, PauseRequest)
        answer = {"changed": await self._pauses.end(wanted.kind, wanted.name), "warning": ""}
        return await self._noted(request, wanted, "resumed", "", answer)

    async def _noted(
        self, request: Request, wanted: PauseRequest, what: str, why: str, answer: dict[str, Any]
    ) -> Response:
        if answer["changed"]:
            await self._trail.note(request, by(request), what, f"{wanted.kind} {wanted.name}", why, what)
        return json_answer(answer | {"pauses": await self._pauses.now()})
