"""The producer's HTTP endpoint: publish one event, publish many, list the journal, follow events."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from unlost.ops.kit.telemetry.guarded import GuardedProtocol
from unlost.ops.kit.telemetry.health import Health, health_routes
from unlost.ops.kit.telemetry.http import whole_number
from unlost.ops.kit.telemetry.mask import masked, masked_within
from unlost.ops.kit.telemetry.openapi import MISTAKEN, openapi_route
from unlost.producer.app.openapi import DOCUMENT
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.fast.parse_worker import ParseWorker
from unlost.producer.fast.publish import PATH, FastPublishProtocol, Heads
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import Entry, Journal, JournalError
from unlost.producer.publish.accept import publication, wrapped
from unlost.producer.publish.batch import Batch, CountOutcome, LineReader, ReadHere
from unlost.producer.publish.origin import SameSite
from unlost.producer.publish.publisher import Publisher
from unlost.producer.publish.single import PublishOne, Shortcut, asks_again
from unlost.producer.stream.damage import Damage
from unlost.producer.stream.groups import Groups
from unlost.producer.stream.page import Page

NDJSON = "application/x-ndjson"
MOST_IDS = 100
MOST_LISTED = 10_000


class _Stories(msgspec.Struct):
    """A listener's answer to ``/api/outcomes``."""

    instance: str
    outcomes: dict[str, list[dict[str, Any]]]


_stories = msgspec.json.Decoder(_Stories)


class Publishing:
    """The routes."""

    def __init__(
        self,
        settings: ProducerSettings,
        *,
        journal: Journal,
        publisher: Publisher,
        page: Page,
        health: Callable[[], Health],
        metrics: Route,
        count_outcome: CountOutcome,
        damage: Damage,
        groups: Groups,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._publisher = publisher
        self._page = page
        self._count_outcome = count_outcome
        self._damage = damage
        self._groups = groups
        self.stream_port = 0
        fast = settings.fast == "on"
        self._reading: LineReader = ParseWorker(max_bytes=settings.max_event_bytes) if fast else ReadHere()
        self._listeners = httpx.AsyncClient(timeout=2.0, trust_env=False)
        most = settings.max_event_bytes
        single = PublishOne(
            publisher,
            count_outcome,
            lambda body, again: publication(body, max_bytes=most, redeliver=again),
            max_bytes=most,
        )
        wrapping = PublishOne(publisher, count_outcome, lambda body, _: wrapped(body, max_bytes=most), max_bytes=most)
        routes = [
            *health_routes(health),
            metrics,
            Route(PATH, single, methods=["POST"]),
            Route("/publish/batch", self.publish_batch, methods=["POST"]),
            Route("/api/v1/ddup_service/events", wrapping, methods=["POST"]),
            Route("/api/v1/ddup_service/test", self.test),
            Route("/api/journal", self.listed),
            Route("/api/journal/groups", self.groups),
            Route("/api/follow", self.follow),
            openapi_route(DOCUMENT),
            Route("/", self.index),
        ]
        self.protocol: Callable[..., GuardedProtocol] = (
            partial(FastPublishProtocol, single, Heads(max_bytes=most)) if fast else GuardedProtocol
        )
        """The protocol of each connection."""
        others = Starlette(routes=routes, exception_handlers=MISTAKEN)
        self.application = SameSite(
            Shortcut(others, PATH, single),
            allowed=settings.allowed_origins,
            stream_port=lambda: self.stream_port,
        )

    async def close(self) -> None:
        """Close the connections to listeners, and end the parse process."""
        self._reading.close()
        await self._listeners.aclose()

    async def publish_batch(self, request: Request) -> Response:
        """NDJSON in, one answer per line out. Lines are stored as they arrive."""
        settings = self._settings
        batch = Batch(
            self._publisher, self._reading, self._count_outcome, max_event_bytes=settings.max_event_bytes,
            max_batch_bytes=settings.max_batch_bytes,
            redeliver=asks_again(request.scope["query_string"]),
        )  # fmt: skip
        try:
            status, answers = await batch.run(request.stream())
        except ClientDisconnect:
            return Response(status_code=499)
        headers = {"Retry-After": "1"} if status == 503 else {}
        if answers.is_plain:
            return Response(answers.whole(), status, headers, media_type=NDJSON)
        headers["Content-Length"] = str(answers.size)
        return StreamingResponse(answers.pieces(), status, headers, media_type=NDJSON)

    async def test(self, request: Request) -> Response:  # noqa: ARG002  Starlette's signature
        """A liveness answer for clients of the deduplicating service."""
        return JSONResponse({"status": "ok", "service": "unlost", "window_seconds": self._settings.retention})

    async def listed(self, request: Request) -> Response:
        """The journal, for audits: NDJSON after a cursor, or the first entry of one event."""
        if "event_id" in request.query_params:
            return await self._first(request.query_params["event_id"])
        limit = whole_number(request, "limit", 1000, least=1, most=MOST_LISTED)
        try:
            bounds = await asyncio.to_thread(self._journal.bounds)
            after = request.query_params.get("after")
            number = bounds[0] if after is None else self._journal.timelines.number_of(after, bounds)
            if number is None:
                return JSONResponse({"error": "this journal does not know that cursor"}, 404)
            entries = await asyncio.to_thread(self._journal.read, number, limit)
        except JournalError as error:
            return _unavailable(error, None)
        return await self._lines(entries)

    async def groups(self, request: Request) -> Response:  # noqa: ARG002
        """What each group has settled, and what was dropped before a group had read it."""
        try:
            stats = await asyncio.to_thread(self._journal.stats)
        except JournalError as error:
            return _unavailable(error, None)
        cursor = self._journal.timelines.cursor
        groups = [
            {
                "group": one.name, "settled": cursor(one.settled), "reported_at": one.at,
                "unread": max(0, stats.newest - max(one.settled, stats.oldest - 1)),
                "dropped_unread": max(0, stats.oldest - 1 - one.settled), "forgotten": one.forgotten,
            }
            for one in self._groups.all
        ]  # fmt: skip
        body = {
            "groups": groups, "oldest": cursor(stats.oldest - 1), "newest": cursor(stats.newest),
            "dropped_unread": stats.dropped_unread, "damaged": self._damage.count,
        }  # fmt: skip
        return JSONResponse(body)

    async def _first(self, event_id: str) -> Response:
        try:
            entry = await asyncio.to_thread(self._journal.first, event_id)
        except JournalError as error:
            return _unavailable(error, event_id)
        return await self._lines([entry] if entry else [])

    async def _lines(self, entries: Sequence[Entry]) -> Response:
        # Retention leaves the digest of an entry whose body it drops; one that cannot be read has none.
        damaged = await asyncio.to_thread(damaged_of, [one for one in entries if one.body or not one.digest])
        self._damage.meet(damaged)
        numbers = {entry.number for entry in damaged}
        lines = [
            msgspec.json.encode(
                {
                    "event_id": entry.event_id,
                    "cursor": self._journal.timelines.cursor(entry.number),
                    "digest": entry.digest.hex(),
                    "at": entry.at,
                    "state": "damaged" if entry.number in numbers else "whole" if entry.body else "dropped",
                }
            )
            for entry in entries
        ]
        return Response(b"".join(line + b"\n" for line in lines), media_type=NDJSON)

    async def follow(self, request: Request) -> Response:
        """Ask each listener for the outcomes of these events."""
        ids = request.query_params.get("ids", "")
        if not 1 <= len(ids.split(",")) <= MOST_IDS or not ids:
            return JSONResponse({"error": f"ids takes 1 to {MOST_IDS} ids with commas between them"}, 400)
        answers = await asyncio.gather(*(self._query(url, ids) for url in self._settings.listeners))
        merged: dict[str, list[Any]] = {event_id: [] for event_id in ids.split(",")}
        away = {}
        for url, answer in zip(self._settings.listeners, answers, strict=True):
            if "error" in answer:
                away[url] = answer["error"]
                continue
            for event_id, story in answer["outcomes"].items():
                merged.setdefault(event_id, []).extend({"instance": answer["instance"], **one} for one in story)
        for story in merged.values():
            story.sort(key=lambda one: float(one.get("at") or 0))
        return JSONResponse({"outcomes": merged, "away": masked_within(away)})

    async def _query(self, url: str, ids: str) -> dict[str, Any]:
        try:
            response = await self._listeners.get(f"{url.rstrip('/')}/api/outcomes", params={"ids": ids})
            response.raise_for_status()
            return msgspec.to_builtins(_stories.decode(response.content))  # type: ignore[no-any-return]
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
            return {"error": str(error) or type(error).__name__}

    async def index(self, request: Request) -> Response:  # noqa: ARG002
        """The page, or a redirect to the console's page."""
        if self._settings.console_url:
            return RedirectResponse(f"{self._settings.console_url}/#/send", 307)
        return HTMLResponse(self._page.html, headers={"content-security-policy": self._page.policy()})


def _unavailable(error: Exception, event_id: str | None) -> JSONResponse:
    body = {"status": "unavailable", "event_id": event_id, "error": masked(str(error))}
    return JSONResponse(body, 503, {"Retry-After": "1"})
