"""The listener's HTTP endpoint: health, metrics, events, and a status page. It only reads."""

import html
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from unlost.listener.app.openapi import DOCUMENT, LAST, MOST_IDS, MOST_ROWS
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.observe.recent import Recent
from unlost.listener.ports.rows import Rows
from unlost.ops.kit.telemetry.health import Health, health_routes
from unlost.ops.kit.telemetry.http import whole_number, whole_path
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.openapi import MISTAKEN, openapi_route


class Watched(Protocol):
    """The part of a running listener that the endpoint reads."""

    def health(self) -> Health:
        """Return the complete health."""

    def in_flight(self, event_id: str) -> Mapping[str, object] | None:
        """Return the state of an event that is in memory now."""


def application(
    *, watched: Watched, store: Rows, recent: Recent, instance: str, metrics: Route, console_url: str | None = None
) -> Starlette:
    """Build the application, which only reads."""
    routes = [
        *health_routes(watched.health),
        metrics,
        openapi_route(DOCUMENT),
        Route("/api/events", _events(store)),
        whole_path("/api/events/{event_id:path}", _event(store, recent, watched)),
        Route("/api/outcomes", _outcomes(recent, watched, instance)),
        Route("/", _status(watched.health, console_url)),
    ]
    return Starlette(routes=routes, exception_handlers=MISTAKEN)


def _events(store: Rows) -> Callable[[Request], Any]:
    async def events(request: Request) -> Response:
        before = whole_number(request, "before", least=0, most=LAST)
        limit = whole_number(request, "limit", 50, least=1, most=MOST_ROWS)
        try:
            rows = await store.page(before, limit)
        except (Transient, Permanent) as error:
            return _away(error)
        following = rows[-1]["seq"] if len(rows) == limit else None
        return _json({"events": rows, "next": following})

    return events


def _event(store: Rows, recent: Recent, watched: Watched) -> Callable[[Request], Any]:
    async def event(request: Request) -> Response:
        event_id = request.path_params["event_id"]
        try:
            row = await store.one(event_id)
        except (Transient, Permanent) as error:
            return _away(error)
        story = recent.of([event_id])[event_id]
        in_flight = watched.in_flight(event_id)
        known = row is not None or story or in_flight
        body = {"event_id": event_id, "row": row, "in_flight": in_flight, "recent": story}
        return _json(body, 200 if known else 404)

    return event


def _outcomes(recent: Recent, watched: Watched, instance: str) -> Callable[[Request], Any]:
    async def outcomes(request: Request) -> Response:
        ids = [one for one in request.query_params.get("ids", "").split(",") if one]
        if not 1 <= len(ids) <= MOST_IDS:
            return JSONResponse({"error": f"ids takes 1 to {MOST_IDS} ids with commas between them"}, 400)
        in_flight = {event_id: state for event_id in ids if (state := watched.in_flight(event_id))}
        return JSONResponse({"instance": instance, "outcomes": recent.of(ids), "in_flight": in_flight})

    return outcomes


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


def _json(body: object, status: int = 200) -> Response:
    """Encode with msgspec: the standard encoder does not know times."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _away(error: Exception) -> JSONResponse:
    return JSONResponse({"error": masked(f"PostgreSQL does not answer now: {error}")}, 503, {"Retry-After": "2"})


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Unlost listener {instance}</title>
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="2"><style>
:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}
th{{text-align:left;padding:.25rem 1.5rem .25rem 0;vertical-align:top;font-weight:600}}td{{overflow-wrap:anywhere}}
tr{{border-bottom:1px solid #8884}}table{{border-collapse:collapse;width:100%}}</style></head>
<body><h1>Listener {instance}</h1><table>{rows}</table>
<p><a href="/health">health</a> · <a href="/metrics">metrics</a> · <a href="/api/events">events</a></p></body></html>"""
