"""The console's HTTP interface: the page, the data that it reads, and the few things that it may change."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from unlost.dlq.record.file import FileError
from unlost.dlq.record.query import Selection
from unlost.listener.app.openapi import LAST
from unlost.ops.console.drills import DrillReport, Drills, TooManyDrills
from unlost.ops.console.guard import Guard
from unlost.ops.console.openapi import DOCUMENT, MOST_IDS, MOST_ROWS
from unlost.ops.console.query import Away, ConsoleQueries
from unlost.ops.console.replays import Busy, ReplayRequest, Replays
from unlost.ops.console.selecting import LettersRequest, Refused, selection_of
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.console.shelf import MOST_LISTED, Shelf, Unknown
from unlost.ops.kit.telemetry.health import Health, health_routes
from unlost.ops.kit.telemetry.http import whole_number, whole_path
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.openapi import MISTAKEN, openapi_route
from unlost.ops.watch.picture import handler_at_work
from unlost.ops.watch.query import Watch

MOST_WORDS = 500
Body = TypeVar("Body")
Work = Callable[[Request], Awaitable[Response]]
STATIC = Path(str(resources.files("unlost.ops.console").joinpath("static")))


class Surface:
    """All routes of the console."""

    def __init__(
        self, settings: ConsoleSettings, *, watch: Watch, queries: ConsoleQueries, shelf: Shelf, replays: Replays,
        drills: Drills, health: Callable[[], Health], metrics: Route,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._watch = watch
        self._queries = queries
        self._shelf = shelf
        self._replays = replays
        self._drills = drills
        get, post = ["GET"], ["POST"]
        routes = [
            *health_routes(health),
            metrics,
            openapi_route(DOCUMENT),
            Route("/", _page, methods=get),
            Route("/api/overview", _answering(self.overview), methods=get),
            Route("/api/events", _answering(self.events), methods=get),
            whole_path("/api/events/{event_id:path}", _answering(self.event), get),
            Route("/api/follow", _answering(self.follow), methods=get),
            Route("/api/publish", _answering(self.publish), methods=post),
            Route("/api/publish/batch", _answering(self.publish), methods=post),
            Route("/api/letters/groups", _answering(self.groups), methods=get),
            Route("/api/letters", _answering(self.letters), methods=get),
            Route("/api/letters/archive", _answering(self.archive), methods=post),
            Route("/api/letters/restore", _answering(self.restore), methods=post),
            Route("/api/letters/{letter_id}", _answering(self.letter), methods=get),
            Route("/api/replays", _answering(self.replays), methods=get),
            Route("/api/replays", _answering(self.replay), methods=post),
            Route("/api/replays/{replay_id}/cancel", _answering(self.cancel), methods=post),
            Route("/api/drill", _answering(self.drill), methods=post),
            Route("/api/token", _answering(self.token), methods=post),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        guard = Middleware(Guard, names=settings.names(), token=settings.console_token.reveal())
        self.application = Starlette(routes=routes, middleware=[guard], exception_handlers=MISTAKEN)

    async def overview(self, request: Request) -> Response:  # noqa: ARG002  Starlette's signature
        """Return the picture and the verdict on it."""
        picture, judged = await self._watch.look()
        return _json(
            {
                "verdict": judged, "picture": picture, "behind": picture.behind,
                "needs_token": bool(self._settings.console_token.reveal()), "redacted": self._settings.redact,
                "handler": self._settings.handler, "drills": self._drills.running(),
            }
        )  # fmt: skip

    async def token(self, request: Request) -> Response:  # noqa: ARG002
        """Confirm the token: the guard lets a request through only if its token is right."""
        return _json({"well": True})

    async def events(self, request: Request) -> Response:
        """Return rows, newest first."""
        last = whole_number(request, "before", least=0, most=LAST)
        limit = whole_number(request, "limit", 50, least=1, most=MOST_ROWS)
        rows = await self._queries.rows(last, limit)
        return _json({"events": rows, "next": rows[-1]["seq"] if len(rows) == limit else None})

    async def event(self, request: Request) -> Response:
        """Return the story of one event."""
        story = await self._queries.story(request.path_params["event_id"])
        return _json(story, 200 if story["found"] else 404)

    async def follow(self, request: Request) -> Response:
        """Return what became of events that the page has published."""
        ids = [one for one in request.query_params.get("ids", "").split(",") if one]
        if not 1 <= len(ids) <= MOST_IDS:
            raise Refused(f"ids takes 1 to {MOST_IDS} ids with commas between them")
        return _json(await self._queries.follow(ids))

    async def publish(self, request: Request) -> Response:
        """Pass one event, or many lines, to the producer."""
        path = "/publish/batch" if request.url.path.endswith("/batch") else "/publish"
        redeliver = request.query_params.get("redeliver") == "true"
        status, content, kind = await self._queries.publish(path, await request.body(), redeliver)
        return Response(content, status, media_type=kind)

    async def groups(self, request: Request) -> Response:  # noqa: ARG002
        """Return groups of letters that failed in the same way."""
        groups, errors = await asyncio.to_thread(lambda: (self._shelf.groups(), self._shelf.errors()))
        return _json({"groups": groups, "errors": errors})

    async def letters(self, request: Request) -> Response:
        """Return the latest letters of a group, of some states, or of all."""
        query = request.query_params
        states = frozenset(one for one in query.get("state", "").split(",") if one)
        chosen = Selection(fingerprint=query.get("fingerprint", ""), statuses=states)
        limit = whole_number(request, "limit", MOST_LISTED, least=1, most=MOST_LISTED)
        return _json(await asyncio.to_thread(self._shelf.letters, chosen, limit))

    async def letter(self, request: Request) -> Response:
        """Return one letter in full."""
        return _json(await asyncio.to_thread(self._shelf.letter, request.path_params["letter_id"]))

    async def archive(self, request: Request) -> Response:
        """Archive letters, with a reason."""
        letters = await _body(request, LettersRequest)
        why = letters.why.strip()
        if not 1 <= len(why) <= MOST_WORDS:
            raise Refused(f'"why" says in 1 to {MOST_WORDS} characters for what reason they are put aside')
        count = await asyncio.to_thread(self._shelf.archive, selection_of(letters), letters.file, why)
        return _json({"archived": count})

    async def restore(self, request: Request) -> Response:
        """Restore archived or quarantined letters."""
        letters = await _body(request, LettersRequest)
        return _json({"restored": await asyncio.to_thread(self._shelf.restore, selection_of(letters), letters.file)})

    async def replays(self, request: Request) -> Response:  # noqa: ARG002
        """Return the replays of this console."""
        return _json({"replays": self._replays.values()})

    async def replay(self, request: Request) -> Response:
        """Start a replay, or with ``dry_run`` return its plan."""
        wanted = await _body(request, ReplayRequest)
        if min(wanted.rate, wanted.limit, wanted.canary, wanted.max_failures) < 0:
            raise Refused("rate, limit, canary and max_failures are not below 0")
        plans = await asyncio.to_thread(self._shelf.plans, selection_of(wanted), wanted.file, wanted.limit)
        if wanted.dry_run:
            return _json({"plans": plans, "letters": sum(one["letters"] for one in plans)})
        picture, _ = await self._watch.look()
        return _json(self._replays.start(wanted, plans, handler_at_work(picture)), 202)

    async def drill(self, request: Request) -> Response:
        """Accept a mark of a drill."""
        self._drills.note(await _body(request, DrillReport))
        return _json({"drills": self._drills.running()})

    async def cancel(self, request: Request) -> Response:
        """Cancel a replay."""
        cancelled = self._replays.cancel(request.path_params["replay_id"])
        return _json(cancelled) if cancelled else _error(404, "no such replay")


async def _page(request: Request) -> Response:  # noqa: ARG001  Starlette's signature
    return FileResponse(STATIC / "index.html")


def _answering(work: Work) -> Work:
    """Turn expected errors into responses."""

    async def answer(request: Request) -> Response:
        try:
            return await work(request)
        except Refused as error:
            return _error(400, masked(str(error)))
        except Unknown as error:
            return _error(404, masked(str(error)))
        except (Busy, TooManyDrills) as error:
            return _error(409, masked(str(error)))
        except (Away, FileError, OSError) as error:
            return _error(503, masked(str(error)))

    return answer


async def _body(request: Request, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.DecodeError as error:
        raise Refused(f"the body is not what is expected: {error}") from None


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _error(status: int, why: str) -> Response:
    return _json({"error": why}, status)
