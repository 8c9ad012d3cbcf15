"""The console's HTTP interface: the page, the data that it reads, and the few things that it may change."""

from collections.abc import Callable, Iterable
from importlib import resources
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from unlost.listener.app.openapi import LAST
from unlost.ops.console.answers import answering, body_of, changing, json_answer, reading
from unlost.ops.console.drills import DrillReport, Drills
from unlost.ops.console.guard import CsrfGuard, Hardened, right_for
from unlost.ops.console.openapi import DOCUMENT, MOST_IDS, MOST_ROWS
from unlost.ops.console.query import ConsoleQueries
from unlost.ops.console.selecting import SelectionRefused
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.console.trail import ConsoleTrail
from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.middleware import Access, redactor_for
from unlost.ops.kit.telemetry.health import Health, health_routes
from unlost.ops.kit.telemetry.http import whole_number, whole_path
from unlost.ops.kit.telemetry.openapi import MISTAKEN, openapi_route
from unlost.ops.kit.telemetry.redact import Redactor
from unlost.ops.watch.query import Watch

STATIC = Path(str(resources.files("unlost.ops.console").joinpath("static")))


class Surface:
    """All routes of the console."""

    def __init__(
        self, settings: ConsoleSettings, *, watch: Watch, queries: ConsoleQueries, trail: ConsoleTrail, drills: Drills,
        health: Callable[[], Health], metrics: Route, gate: Gate, more: Iterable[BaseRoute],
    ) -> None:  # fmt: skip
        """``more``: the routes of other modules."""
        self._settings = settings
        self._redactor = settings.redactor()
        self._watch = watch
        self._queries = queries
        self._trail = trail
        self._drills = drills
        routes = [
            *health_routes(health),
            metrics,
            openapi_route(DOCUMENT),
            Route("/", _page, methods=["GET"]),
            reading("/api/overview", self.overview),
            reading("/api/events", self.events),
            whole_path("/api/events/{event_id:path}", answering(self.event), ["GET"]),
            reading("/api/follow", self.follow),
            changing("/api/publish", self.publish),
            changing("/api/publish/batch", self.publish),
            reading("/api/trail", self.trail),
            changing("/api/drill", self.drill),
            changing("/api/token", self.token),
            *more,
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        self._gate = gate
        middleware = [Middleware(Hardened), Middleware(Access, gate, right_for), Middleware(CsrfGuard, gate)]
        self.application = Starlette(routes=routes, middleware=middleware, exception_handlers=MISTAKEN)

    def _redactor_for(self, request: Request) -> Redactor:
        return redactor_for(request.scope, self._redactor)

    async def overview(self, request: Request) -> Response:
        """Return the picture and the verdict on it."""
        picture, judged = await self._watch.look()
        return json_answer(
            {
                "verdict": judged, "picture": picture, "behind": picture.behind,
                "needs_token": not self._gate.is_open,
                "redacted": self._settings.redact if self._redactor_for(request).masks else (),
                "handler": self._settings.handler, "links": self._settings.links(), "drills": self._drills.running(),
            }
        )  # fmt: skip

    async def token(self, request: Request) -> Response:  # noqa: ARG002
        """Confirm the token: the gate lets a request through only if its token is right."""
        return json_answer({"well": True})

    async def events(self, request: Request) -> Response:
        """Return rows, newest first."""
        last = whole_number(request, "before", least=0, most=LAST)
        limit = whole_number(request, "limit", 50, least=1, most=MOST_ROWS)
        rows, behind = await self._queries.rows(last, limit, self._redactor_for(request))
        following = rows[-1]["seq"] if len(rows) == limit else None
        return json_answer({"events": rows, "next": following, "behind_seconds": behind})

    async def event(self, request: Request) -> Response:
        """Return the story of one event."""
        story = await self._queries.story(request.path_params["event_id"], self._redactor_for(request))
        story["links"] = self._settings.links(event_id=story["event_id"])
        return json_answer(story, 200 if story["found"] else 404)

    async def follow(self, request: Request) -> Response:
        """Return what became of events that the page has published."""
        ids = [one for one in request.query_params.get("ids", "").split(",") if one]
        if not 1 <= len(ids) <= MOST_IDS:
            raise SelectionRefused(f"ids takes 1 to {MOST_IDS} ids with commas between them")
        return json_answer(await self._queries.follow(ids))

    async def publish(self, request: Request) -> Response:
        """Pass one event, or many lines, to the producer."""
        path = "/publish/batch" if request.url.path.endswith("/batch") else "/publish"
        redeliver = request.query_params.get("redeliver") == "true"
        status, content, kind = await self._queries.publish(path, await request.body(), redeliver)
        return Response(content, status, media_type=kind)

    async def drill(self, request: Request) -> Response:
        """Accept a mark of a drill."""
        self._drills.note(await body_of(request, DrillReport))
        return json_answer({"drills": self._drills.running()})

    async def trail(self, request: Request) -> Response:  # noqa: ARG002
        """Return who changed what, the latest first."""
        return json_answer({"trail": await self._trail.latest()})


async def _page(request: Request) -> Response:  # noqa: ARG001  Starlette's signature
    return FileResponse(STATIC / "index.html")
