"""Queries of the audit to the producer's journal and to the listeners, and rows as the audit sees them."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from unlost.listener.core.shard import Shard
from unlost.listener.store.postgres.reports import AuditedRow, Reports
from unlost.ops.audit.account import Row
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry.tls import tls_failure

PAGE = 5_000
IDS_PER_CALL = 100
TIMEOUT = 15.0
CURSOR_REFUSED = frozenset({400, 404, 409, 410, 416})


class AcceptedEvent(msgspec.Struct, frozen=True):
    """One accepted event in the journal."""

    event_id: str
    cursor: str | int
    digest: str = ""
    at: Any = None
    state: str = "whole"
    """``whole``, ``damaged`` (its bytes differ from those that were accepted) or ``dropped``."""


class UnknownCursor(Exception):
    """The journal does not know this cursor."""


_entry = msgspec.json.Decoder(AcceptedEvent)


async def journal(
    client: httpx.AsyncClient, producer_url: str, after: str | int | None = None, *, shard: Shard | None = None
) -> AsyncIterator[list[AcceptedEvent]]:
    """Yield all accepted events after a cursor, or those of a shard, oldest first, in pages."""
    while True:
        parameters: dict[str, Any] = {"limit": PAGE} | ({} if after is None else {"after": after})
        response = await _get(client, f"{producer_url}/api/journal", parameters)
        page = [_entry.decode(line) for line in response.content.splitlines() if line.strip()]
        if not page:
            return
        yield page if shard is None else [entry for entry in page if shard.has(entry.event_id)]
        after = page[-1].cursor


async def first_entry(client: httpx.AsyncClient, producer_url: str, event_id: str) -> AcceptedEvent | None:
    """Return the first entry of an event; None if it was never accepted, or has been forgotten."""
    response = await _get(client, f"{producer_url}/api/journal", {"event_id": event_id})
    lines = response.content.splitlines()
    return _entry.decode(lines[0]) if lines else None


class Retained(msgspec.Struct, frozen=True):
    """How many events retention removed before a group had read them, and whether it waits for this group."""

    dropped: int = 0
    waits: bool = True


async def retained(client: httpx.AsyncClient, producer_url: str, reports: Reports, group: str) -> Retained:
    """Query what retention has dropped, and whether it waits for the group in this database."""
    database = await reports.database()
    try:
        answer = await client.get(f"{producer_url}/api/journal/groups", timeout=TIMEOUT)
        if not answer.is_success:
            return Retained()
        state = answer.json()
        known = {one["group"] for one in state["groups"] if not one["forgotten"]}
        return Retained(int(state["dropped_unread"]), f"{group}@{database}" in known)
    except (httpx.TransportError, ValueError, KeyError) as error:
        raise UsageProblem(f"{producer_url} does not say what it dropped ({error})") from None


async def rows(reports: Reports, event_ids: Sequence[str], *, handled_from: int | None) -> dict[str, Row]:
    """Return those of these events that have rows. ``handled_from``: from this row on, all must have been handled."""

    def is_right(row: AuditedRow) -> bool:
        return bool(row.handler) or handled_from is None or row.seq < handled_from

    return {row.event_id: Row(row.digest.hex(), is_right(row)) for row in await reports.rows(event_ids)}


async def handled_from(client: httpx.AsyncClient, listeners: Iterable[str], reports: Reports) -> int | None:
    """Return the number of the first row that a handler processed: rows before it are from a time without a handler.

    None: the group has no handler now. If no row was handled, all should have been.
    """
    if await handler(client, listeners) is None:
        return None
    return await reports.first_handled() or 0


async def handler(client: httpx.AsyncClient, listeners: Iterable[str]) -> str | None:
    """Return the handler's name from the listeners that answer; None if they have none."""
    for url in listeners:
        try:
            handler = (await client.get(f"{url}/health", timeout=TIMEOUT)).json().get("handler")
        except (httpx.TransportError, ValueError, AttributeError):
            continue
        if handler:
            return str(handler)
    return None


async def in_flight(client: httpx.AsyncClient, listeners: Iterable[str], event_ids: Sequence[str]) -> set[str]:
    """Return those of these events that some listener holds. A listener that does not answer counts as holding none."""
    plain = [one for one in event_ids if "," not in one]
    odd = [one for one in event_ids if "," in one]  # the list of ids in the URL is separated by commas
    held: set[str] = set()
    for url in listeners:
        try:
            for start in range(0, len(plain), IDS_PER_CALL):
                ids = ",".join(plain[start : start + IDS_PER_CALL])
                answer = await client.get(f"{url}/api/outcomes", params={"ids": ids}, timeout=TIMEOUT)
                held.update(answer.json()["in_flight"])
            held.update([one for one in odd if (await known_to(client, url, one)).get("in_flight")])
        except (httpx.TransportError, ValueError, KeyError):
            continue
    return held


async def known_to(client: httpx.AsyncClient, listener_url: str, event_id: str) -> dict[str, Any]:
    """Return all that one listener knows of an event."""
    answer = await client.get(f"{listener_url}/api/events/{quote(event_id, safe='')}", timeout=TIMEOUT)
    known: dict[str, Any] = answer.json()
    return known


async def _get(client: httpx.AsyncClient, url: str, params: dict[str, Any]) -> httpx.Response:
    try:
        response = await client.get(url, params=params, timeout=TIMEOUT)
        response.raise_for_status()
    except (httpx.TransportError, OSError) as error:
        why = tls_failure(error, ca="UNLOST_CA", cert="UNLOST_CERT") or error
        raise UsageProblem(f"{url} cannot be reached ({why}); is it up?") from None
    except httpx.HTTPStatusError as error:
        if error.response.status_code in CURSOR_REFUSED and "after" in params:
            raise UnknownCursor(str(params["after"])) from None
        raise UsageProblem(f"{url} answered {error.response.status_code}: {error.response.text[:200]}") from None
    return response
