"""The producer's HTTP endpoint: publish one event, publish many, list the journal, follow events."""

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Scope

from unlost.ops.kit.access.gate import Gate
from unlost.ops.kit.access.identity import Identity, Right
from unlost.ops.kit.access.limits import Quota
from unlost.ops.kit.access.middleware import PASSED, Access
from unlost.ops.kit.telemetry.guarded import GuardedProtocol
from unlost.ops.kit.telemetry.health import HEALTH_PATHS, Health, health_routes
from unlost.ops.kit.telemetry.http import whole_number
from unlost.ops.kit.telemetry.mask import masked, masked_within
from unlost.ops.kit.telemetry.openapi import MISTAKEN, openapi_route
from unlost.producer.app.cloudevents import PublishCloudEvents
from unlost.producer.app.openapi import DOCUMENT
from unlost.producer.app.outcomes import Outcomes
from unlost.producer.app.settings import ProducerSettings
from unlost.producer.app.signed import Signed
from unlost.producer.fast.parse_worker import ParseWorker
from unlost.producer.fast.publish import PATH, FastPublishProtocol, PlainHeads
from unlost.producer.journal.damage import damaged_of
from unlost.producer.journal.port import Entry, Journal, JournalError
from unlost.producer.journal.publications import Publication
from unlost.producer.publish.accept import Check, publication, wrapped
from unlost.producer.publish.batch import CountOutcome, LineReader, PublishBatch, ReadHere
from unlost.producer.publish.publisher import GroupCommit
from unlost.producer.publish.single import PublishOne, Shortcut, asks_again
from unlost.producer.stream.damage import DamagedEntries
from unlost.producer.stream.groups import Groups
from unlost.producer.stream.page import PageFiles

NDJSON = "application/x-ndjson"
MOST_IDS = 100
MOST_LISTED = 10_000
TEST = "/api/v1/ddup_service/test"
OPEN = (*HEALTH_PATHS, TEST, "/")
"""Paths without a token: probes, and the page, which asks for a token before it publishes."""


class Publishing:
    """The routes."""

    def __init__(
        self,
        settings: ProducerSettings,
        *,
        journal: Journal,
        publisher: GroupCommit,
        page: PageFiles,
        health: Callable[[], Health],
        metrics: Route,
        count_outcome: CountOutcome,
        damage: DamagedEntries,
        groups: Groups,
        gate: Gate,
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
        self._check = _schemas(settings)
        elsewhere = fast and self._check is None
        self._reading: LineReader = ParseWorker(max_bytes=settings.max_event_bytes) if elsewhere else ReadHere()
        self._outcomes = Outcomes(settings)
        self._gate = gate
        single = self._one_by(self._read_one)
        self.protocol: Callable[..., GuardedProtocol] = (
            partial(FastPublishProtocol, single, PlainHeads(max_bytes=settings.max_event_bytes, gate=gate))
            if fast
            else GuardedProtocol
        )
        """The protocol of each connection."""
        routes = [*health_routes(health), metrics, *self._routes(single)]
        others = Starlette(routes=routes, exception_handlers=MISTAKEN)
        guarded = Access(
            Shortcut(others, PATH, single),
            gate,
            right_for,
            is_own_page=lambda origin, host: is_own_page(origin, host, self.stream_port),
        )
        self.application = Signed(guarded, single, PATH, gate, max_bytes=settings.max_event_bytes)

    def _one_by(self, parse: Callable[[bytes, bool], Publication]) -> PublishOne:
        most = self._settings.max_event_bytes
        return PublishOne(self._publisher, self._count_outcome, parse, max_bytes=most, quota_of=self._quota_of)

    def _routes(self, single: PublishOne) -> list[Route]:
        cloudevents = PublishCloudEvents(single, self._answer_lines, self._quota_of, self._settings).answer
        return [
            Route(PATH, single, methods=["POST"]),
            Route("/publish/batch", self.publish_batch, methods=["POST"]),
            Route("/publish/cloudevents", cloudevents, methods=["POST"]),
            Route("/api/v1/ddup_service/events", self._one_by(self._wrap_one), methods=["POST"]),
            Route(TEST, self.test),
            Route("/api/journal", self.listed),
            Route("/api/journal/groups", self.groups),
            Route("/api/follow", self.follow),
            openapi_route(DOCUMENT),
            Route("/", self.index),
        ]

    def _read_one(self, body: bytes, redeliver: bool) -> Publication:
        return publication(body, max_bytes=self._settings.max_event_bytes, redeliver=redeliver, check=self._check)

    def _wrap_one(self, body: bytes, redeliver: bool) -> Publication:  # noqa: ARG002
        return wrapped(body, max_bytes=self._settings.max_event_bytes, check=self._check)

    def _quota_of(self, scope: Scope) -> Quota:
        return self._gate.quota_of(scope[PASSED].identity)

    async def close(self) -> None:
        """Close the connections to listeners, and end the parse process."""
        self._reading.close()
        await self._outcomes.close()

    async def publish_batch(self, request: Request) -> Response:
        """NDJSON in, one answer per line out. Lines are stored as they arrive."""
        try:
            return await self._answer_lines(request, request.stream(), self._settings.max_batch_bytes)
        except ClientDisconnect:
            return Response(status_code=499)

    async def _answer_lines(self, request: Request, chunks: AsyncIterable[bytes], most: int) -> Response:
        settings = self._settings
        batch = PublishBatch(
            self._publisher, self._reading, self._count_outcome, max_event_bytes=settings.max_event_bytes,
            max_batch_bytes=most, quota=self._quota_of(request.scope),
            redeliver=asks_again(request.scope["query_string"]), check=self._check,
        )  # fmt: skip
        status, answers = await batch.run(chunks)
        headers = {"Retry-After": "1"} if status == 503 else {}
        if answers.is_plain:
            return Response(answers.whole(), status, headers, media_type=NDJSON)
        headers["Content-Length"] = str(answers.size)
        return StreamingResponse(answers.pieces(), status, headers, media_type=NDJSON)

    async def test(self, request: Request) -> Response:  # noqa: ARG002  Starlette's signature
        """Answer clients that test whether the deduplication service is there."""
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

    async def groups(self, request: Request) -> Response:
        """Report what each group has settled, and what was dropped before a group had read it."""
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
            if _is_shown(one.name, request.scope[PASSED].identity)
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
        # An entry whose body retention dropped has a digest; one that cannot be read has none.
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
        answers = await asyncio.gather(*(self._outcomes.of(url, ids) for url in self._settings.listeners))
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

    async def index(self, request: Request) -> Response:  # noqa: ARG002
        """The page, or a redirect to the console's page."""
        if self._settings.console_url:
            return RedirectResponse(f"{self._settings.console_url}/#/send", 307)
        return HTMLResponse(self._page.html, headers={"content-security-policy": self._page.policy()})


def _schemas(settings: ProducerSettings) -> Check | None:
    if settings.schemas is None:
        return None
    from unlost.producer.publish.schemas import schemas_of  # needs a library of an extra

    return schemas_of(settings.schemas)


def right_for(method: str, path: str) -> Right | None:
    """The right that a request needs."""
    if method in ("GET", "HEAD"):
        return None if path in OPEN else "read"
    return "publish"


def is_own_page(origin: str, host: str, stream_port: int) -> bool:
    """Whether this origin is our own page on the stream's port, which may use this server too."""
    try:
        page = urlsplit(origin)
        return page.port == stream_port and page.hostname == urlsplit(f"//{host}").hostname
    except ValueError:
        return False


def _is_shown(group: str, identity: Identity | None) -> bool:
    return identity is None or identity.is_of(group.partition("@")[0])


def _unavailable(error: Exception, event_id: str | None) -> JSONResponse:
    body = {"status": "unavailable", "event_id": event_id, "error": masked(str(error))}
    return JSONResponse(body, 503, {"Retry-After": "1"})
