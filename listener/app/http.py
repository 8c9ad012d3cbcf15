"""The listener's HTTP endpoint: health, metrics, events, and a status page. It only reads."""

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from unlost.listener.app.openapi import DOCUMENT, LAST, MOST_IDS, MOST_ROWS
from unlost.listener.core import cloudevent
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.observe.recent import Happening, Recent
from unlost.listener.pipeline.work import WaitingEvent
from unlost.listener.ports.rows import Rows
from unlost.listener.store.postgres.pages import Pages
from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.middleware import Access, redactor_for
from unlost.ops.kit.telemetry.health import HEALTH_PATHS, Health, health_routes
from unlost.ops.kit.telemetry.http import whole_number, whole_path
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.openapi import MISTAKEN, openapi_route
from unlost.ops.kit.telemetry.redact import Redactor


class ObservedListener(Protocol):
    """The part of a running listener that the endpoint reads."""

    def health(self) -> Health:
        """Return the complete health."""

    def next_retries(self, most: int) -> Sequence[WaitingEvent]:
        """Return the events whose next attempt comes first."""

    def in_flight(self, event_id: str) -> Mapping[str, object] | None:
        """Return the state of an event that is in memory now."""


def application(
    *,
    watched: ObservedListener,
    store: Rows,
    pages: Pages,
    recent: Recent,
    instance: str,
    metrics: Route,
    gate: Gate,
    redactor: Redactor,
    asyncapi: Callable[[], Mapping[str, Any]],
    console_url: str | None = None,
) -> Access:
    """Build the application, which only reads."""
    routes = [
        *health_routes(watched.health),
        metrics,
        openapi_route(DOCUMENT),
        Route("/asyncapi.json", _asyncapi(asyncapi)),
        Route("/api/events", _events(pages, redactor)),
        whole_path("/api/events/{event_id:path}", _event(store, recent, watched, redactor)),
        Route("/api/outcomes", _outcomes(recent, watched, instance, redactor)),
        Route("/api/waiting", _waiting(watched, instance, redactor)),
        Route("/", _status(watched.health, console_url)),
    ]
    # A browser that is redirected to the console needs no rights here.
    open_paths = HEALTH_PATHS if console_url is None else (*HEALTH_PATHS, "/")

    def right_for(method: str, path: str) -> Right | None:  # noqa: ARG001  there is nothing but reading
        return None if path in open_paths else "read"

    return Access(Starlette(routes=routes, exception_handlers=MISTAKEN), gate, right_for)


def _asyncapi(document: Callable[[], Mapping[str, Any]]) -> Callable[[Request], Any]:
    async def asyncapi(request: Request) -> Response:  # noqa: ARG001  Starlette's signature
        return _json(document())

    return asyncapi


def _events(pages: Pages, redactor: Redactor) -> Callable[[Request], Any]:
    async def events(request: Request) -> Response:
        before = whole_number(request, "before", least=0, most=LAST)
        limit = whole_number(request, "limit", 50, least=1, most=MOST_ROWS)
        try:
            rows, behind = await pages.page(before, limit)
        except (Transient, Permanent) as error:
            return _away(error)
        shown = redactor_for(request.scope, redactor)
        if _asks_for(request, cloudevent.BATCH):
            return _json([_cloudevent(shown.row(row)) for row in rows], media_type=cloudevent.BATCH)
        following = rows[-1]["seq"] if len(rows) == limit else None
        return _json({"events": list(map(shown.row, rows)), "next": following, "behind_seconds": behind})

    return events


def _event(store: Rows, recent: Recent, watched: ObservedListener, redactor: Redactor) -> Callable[[Request], Any]:
    async def event(request: Request) -> Response:
        event_id = request.path_params["event_id"]
        row, away = None, None
        try:
            row = await store.one(event_id)
        except (Transient, Permanent) as error:
            away = error
        shown = redactor_for(request.scope, redactor)
        if row is not None and _asks_for(request, cloudevent.STRUCTURED):
            return _json(_cloudevent(shown.row(row)), media_type=cloudevent.STRUCTURED)
        story = _masked(recent.of([event_id])[event_id], shown, row)
        in_flight = watched.in_flight(event_id)
        known = row is not None or story or in_flight
        if away is not None and not known:
            return _away(away)
        body = {"event_id": event_id, "row": row and shown.row(row), "in_flight": in_flight, "recent": story}
        if away is not None:  # what this listener knows is returned nevertheless
            body["row_unknown"] = _why(away)
        return _json(body, 200 if known else 404)

    return event


def _outcomes(recent: Recent, watched: ObservedListener, instance: str, redactor: Redactor) -> Callable[[Request], Any]:
    async def outcomes(request: Request) -> Response:
        ids = [one for one in request.query_params.get("ids", "").split(",") if one]
        if not 1 <= len(ids) <= MOST_IDS:
            return JSONResponse({"error": f"ids takes 1 to {MOST_IDS} ids with commas between them"}, 400)
        in_flight = {event_id: state for event_id in ids if (state := watched.in_flight(event_id))}
        shown = redactor_for(request.scope, redactor)
        reported = {event_id: _masked(story, shown, None) for event_id, story in recent.of(ids).items()}
        return JSONResponse({"instance": instance, "outcomes": reported, "in_flight": in_flight})

    return outcomes


def _waiting(watched: ObservedListener, instance: str, redactor: Redactor) -> Callable[[Request], Any]:
    async def waiting(request: Request) -> Response:
        most = whole_number(request, "limit", 50, least=1, most=MOST_ROWS)
        shown = redactor_for(request.scope, redactor)
        found = [
            msgspec.structs.replace(one, error=shown.unknown(masked(one.error))) for one in watched.next_retries(most)
        ]
        return _json({"instance": instance, "waiting": found})

    return waiting


def _masked(story: Iterable[Happening], redactor: Redactor, row: dict[str, Any] | None) -> list[Happening]:
    return [{**one, "detail": redactor.text_of_row(str(one["detail"]), row)} for one in story]


def _status(health: Callable[[], Health], console_url: str | None) -> Callable[[Request], Any]:
    async def status(request: Request) -> Response:  # noqa: ARG001  Starlette's signature
        if console_url:
            return RedirectResponse(f"{console_url}/", 307)
        picture = health().whole()
        rows = "".join(
            f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in picture.items()
        )
        page = PAGE.format(instance=html.escape(str(picture["instance"])), rows=rows)
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    return status


def _json(body: object, status: int = 200, media_type: str = "application/json") -> Response:
    """Encode with msgspec: the standard encoder does not know times."""
    return Response(msgspec.json.encode(body), status, media_type=media_type)


def _asks_for(request: Request, media_type: str) -> bool:
    return media_type in request.headers.get("accept", "")


def _cloudevent(row: Mapping[str, Any]) -> dict[str, Any]:
    return cloudevent.structured(row["event_id"], row["type"], row["payload"], row["other"])


def _away(error: Exception) -> JSONResponse:
    return JSONResponse({"error": _why(error)}, 503, {"Retry-After": "2"})


def _why(error: Exception) -> str:
    return masked(f"PostgreSQL does not answer now: {error}")


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Unlost listener {instance}</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="2"><style>
:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}
th{{text-align:left;padding:.25rem 1.5rem .25rem 0;vertical-align:top;font-weight:600}}td{{overflow-wrap:anywhere}}
tr{{border-bottom:1px solid #8884}}table{{border-collapse:collapse;width:100%}}</style></head>
<body><h1>Listener {instance}</h1><table>{rows}</table>
<p><a href="/health">health</a> · <a href="/metrics">metrics</a> · <a href="/api/events">events</a></p></body></html>"""
