"""Queries listeners, producer and PostgreSQL for the page, and redacts their answers."""

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import httpx

from unlost.dlq.record.file import FileError
from unlost.dlq.store.port import Unreachable
from unlost.listener.core.codec_loading import codec_of
from unlost.listener.core.errors import Permanent, Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.pages import Pages, RowPage
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.ops.audit import query
from unlost.ops.console.letters import ConsoleLetters
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.console.story import sentence, steps
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.kit.telemetry.redact import Redactor
from unlost.ops.watch.query import host_and_port

PATIENCE = 3.0
PUBLISH_PATIENCE = 30.0


class Away(Exception):
    """A part that is needed does not answer."""


class ConsoleQueries:
    """All queries of the console to other parts."""

    def __init__(
        self, settings: ConsoleSettings, database: Database, letters: ConsoleLetters, redactor: Redactor
    ) -> None:
        self._settings = settings
        codec = codec_of(settings)
        self._store = PostgresRows(database, instance_id="console", token="console", codec=codec)  # noqa: S106  it only reads
        self._pages = Pages(self._store, settings.standby(), codec)
        self._letters = letters
        self._redactor = redactor
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False, **settings.client())

    async def close(self) -> None:
        """Close the connections."""
        await self._pages.close()
        await self._client.aclose()

    async def rows(self, before: int | None, limit: int, redactor: Redactor) -> RowPage:
        """Return a page of rows, newest first, masked by this redactor."""
        try:
            found, behind = await self._pages.page(before, limit)
        except (Transient, Permanent) as error:
            raise Away(f"PostgreSQL does not answer: {error}") from None
        return RowPage([redactor.row(one) for one in found], behind)

    async def story(self, event_id: str, redactor: Redactor) -> dict[str, Any]:
        """Return all that is known of an event, masked. ``away`` names the parts that did not answer."""
        away: dict[str, str] = {}
        journal, row, letters, listeners = await asyncio.gather(
            self._journal(event_id, away),
            self._stored(event_id, away),
            self._letters_of(event_id, away, redactor),
            asyncio.gather(*(self._known_to(url, event_id, away) for url in self._settings.listeners)),
        )
        known = [_tame(one, row, redactor) for one in listeners if one is not None]
        shown = None if row is None else redactor.row(row)
        evidence = (journal, shown, known, letters)
        return {
            "event_id": event_id, "sentence": sentence(event_id, *evidence), "steps": steps(*evidence),
            "journal": journal, "row": shown, "letters": letters, "listeners": known, "away": away,
            "found": any((journal, row, letters, *(one["recent"] or one["in_flight"] for one in known))),
        }  # fmt: skip

    async def follow(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return what the listeners know of these events."""
        away: dict[str, str] = {}
        merged: dict[str, list[dict[str, Any]]] = {event_id: [] for event_id in ids}
        answers = await asyncio.gather(*(self._outcomes(url, ids, away) for url in self._settings.listeners))
        for answer in answers:
            for event_id, story in answer.get("outcomes", {}).items():
                for one in story:
                    tame = {**one, "detail": self._redactor.unknown(one["detail"]), "instance": answer["instance"]}
                    merged.setdefault(event_id, []).append(tame)
        for story in merged.values():
            story.sort(key=lambda one: one["at"])
        return {"outcomes": merged, "away": away}

    async def waiting(self) -> dict[str, Any]:
        """Return the events that each listener holds for another attempt. Listeners mask them."""
        away: dict[str, str] = {}
        found = await asyncio.gather(*(self._waiting_at(url, away) for url in self._settings.listeners))
        return {"listeners": [one for one in found if one], "away": away}

    async def _waiting_at(self, url: str, away: dict[str, str]) -> dict[str, Any]:
        try:
            answer = await self._client.get(f"{url}/api/waiting")
            answer.raise_for_status()
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            away[host_and_port(url)] = masked(str(error)) or type(error).__name__
            return {}
        return body

    async def publish(self, path: str, body: bytes, redeliver: bool) -> tuple[int, bytes, str]:
        """Pass a request to the producer; return the status, body and content type of its response."""
        url = self._settings.producer_url
        if url is None:
            raise Away("no producer is known here; set PRODUCER_URL")
        try:
            answer = await self._client.post(
                f"{url}{path}", content=body, params={"redeliver": "true"} if redeliver else None,
                timeout=PUBLISH_PATIENCE,
            )  # fmt: skip
        except (httpx.HTTPError, OSError) as error:
            raise Away(f"the producer at {masked(url)} cannot be reached: {error or type(error).__name__}") from None
        return answer.status_code, answer.content, answer.headers.get("content-type", "application/json")

    async def _letters_of(self, event_id: str, away: dict[str, str], redactor: Redactor) -> list[dict[str, Any]]:
        try:
            if errors := await self._letters.errors():
                away["dead letters"] = "; ".join(errors)
            return await self._letters.of_event(event_id, redactor)
        except (FileError, Unreachable) as error:
            away["dead letters"] = masked(str(error))
            return []

    async def _journal(self, event_id: str, away: dict[str, str]) -> dict[str, Any] | None:
        url = self._settings.producer_url
        if url is None:
            return None
        try:
            entry = await query.first_entry(self._client, url, event_id)
        except UsageProblem as problem:
            away["producer"] = str(problem)
            return None
        return None if entry is None else {"cursor": entry.cursor, "digest": entry.digest, "at": entry.at}

    async def _stored(self, event_id: str, away: dict[str, str]) -> dict[str, Any] | None:
        try:
            return await self._store.one(event_id)
        except (Transient, Permanent) as error:
            away["PostgreSQL"] = masked(str(error))
            return None

    async def _known_to(self, url: str, event_id: str, away: dict[str, str]) -> dict[str, Any] | None:
        name = host_and_port(url)
        try:
            answer = await self._client.get(f"{url}/api/outcomes", params={"ids": event_id})
            if "," in event_id:  # the list of ids is written with commas
                answer = await self._client.get(f"{url}/api/events/{quote(event_id, safe='')}")
            body = answer.json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            away[name] = masked(str(error)) or type(error).__name__
            return None
        if "outcomes" in body:
            story, held = body["outcomes"].get(event_id, []), body["in_flight"].get(event_id)
            return {"url": masked(url), "instance": body["instance"], "recent": story, "in_flight": held}
        return {
            "url": masked(url),
            "instance": name,
            "recent": body.get("recent") or [],
            "in_flight": body.get("in_flight"),
        }

    async def _outcomes(self, url: str, ids: Sequence[str], away: dict[str, str]) -> dict[str, Any]:
        try:
            answer = await self._client.get(f"{url}/api/outcomes", params={"ids": ",".join(ids)})
            answer.raise_for_status()
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            away[masked(url)] = masked(str(error)) or type(error).__name__
            return {}
        return body


def _tame(known: dict[str, Any], row: dict[str, Any] | None, redactor: Redactor) -> dict[str, Any]:
    recent = [{**one, "detail": redactor.text_of_row(one["detail"], row)} for one in known["recent"]]
    return {**known, "recent": recent}
