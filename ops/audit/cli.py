"""``unlost audit`` accounts for every accepted event. ``unlost event`` shows all that is known of one event."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import click
import httpx
from pydantic import Field

from unlost.dlq.record.file import FileError
from unlost.listener.app.settings import GroupName
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS
from unlost.ops.audit import query
from unlost.ops.audit.account import Account
from unlost.ops.audit.letters import letters_of, unresolved_letters
from unlost.ops.kit.command import SecretUrl, Settings, UsageProblem, WebAddress, command, say, say_json_text
from unlost.ops.kit.telemetry.printable import printable

AGAIN = 0.5


class AuditSettings(Settings):
    """Where the parts of the system are."""

    producer_url: WebAddress = Field("http://127.0.0.1:3005", description="The producer, for its journal")
    listeners: tuple[WebAddress, ...] = Field(
        ("http://127.0.0.1:3000", "http://127.0.0.1:3001"), description="The listeners, for what they hold"
    )
    database_url: SecretUrl = Field(
        SecretUrl("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL, for the rows"
    )
    letters: tuple[Path, ...] = Field((), description="Dead-letter files, directories or patterns, if no FILE is given")
    group: GroupName = Field("unlost", description="The group of listeners whose cursor counts")
    settle: float = Field(10.0, ge=0, description="Seconds to keep looking for events that are found nowhere")


_files = click.Argument(["files"], nargs=-1, type=click.Path(path_type=Path))
_as_json = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


@command(
    AuditSettings,
    examples=[
        "unlost audit",
        "unlost audit .unlost/*/failed_events.jsonl",
        "unlost audit --json a/failed_events.jsonl",
    ],
    params=[_files, _as_json],
)
def audit(settings: AuditSettings, files: tuple[Path, ...], as_json: bool) -> int:
    """Account for every event that the producer accepted: row, letter in FILES, in flight, waiting, or missing.

    Unread events wait for a group that has no live listener.
    """
    named = files or settings.letters
    with _one_sentence(settings):
        account = asyncio.run(audited(settings, named))
    if account.unread:
        haste = "" if account.is_retained else " soon: the producer has forgotten the group, and may drop them"
        say(
            f"group {settings.group} has no live listener: nobody reads {account.unread:,} events; start one{haste}",
            err=True,
        )
    if account.missing and not named:
        say(
            "no dead-letter file was read: an event that is a letter is missing here; give FILES, or set LETTERS",
            err=True,
        )
    if as_json:
        say(json.dumps({**account.counts(), **{f"{word}_ids": ids for word, ids in account.ids().items()}}))
    else:
        for name, count in account.counts().items():
            say(f"{name.replace('_', ' '):<14}{count:>12,}")
        for word, ids in account.ids().items():
            for event_id in ids:
                say(f"{word}: {printable(event_id)}")
    return 0 if account.is_balanced else 1


@command(
    AuditSettings,
    examples=["unlost event order-17 .unlost/*/failed_events.jsonl"],
    params=[click.Argument(["event_id"]), _files],
)
def event(settings: AuditSettings, event_id: str, files: tuple[Path, ...]) -> int:
    """Show all that is known of the event EVENT_ID, as JSON: journal, row, listeners, letters in FILES."""
    with _one_sentence(settings):
        known = asyncio.run(_known(settings, event_id, files or settings.letters))
    say_json_text(json.dumps(known, indent=2, default=str, ensure_ascii=False))
    return 0 if any(known[place] for place in ("journal", "row", "letters")) else 1


async def audited(settings: AuditSettings, files: tuple[Path, ...]) -> Account:
    """Query all parts and return the closed account."""
    account = Account()
    letters, account.damaged_lines = unresolved_letters(files)
    async with _everybody(settings) as (client, connection):
        handled_from = await query.handled_from(client, settings.listeners, connection, settings.group)
        retained = await query.retained(client, settings.producer_url, connection, settings.group)
        account.dropped, account.is_retained = retained.dropped, retained.waits
        async for page in query.journal(client, settings.producer_url):
            ids = [entry.event_id for entry in page]
            account.accept(page, await query.rows(connection, settings.group, ids, handled_from=handled_from), letters)
        await _close(account, settings, files, client, connection, handled_from)
    return account


async def _close(
    account: Account,
    settings: AuditSettings,
    files: tuple[Path, ...],
    client: httpx.AsyncClient,
    connection: asyncpg.Connection,
    handled_from: int | None,
) -> None:
    """Query again for events that were found nowhere: they may have been moving from one place to another."""
    deadline = time.monotonic() + settings.settle
    while account.left:
        left = [*account.left]
        held = await query.in_flight(client, settings.listeners, left)
        unread = await _unread(settings, client, connection, set(left))
        letters, account.damaged_lines = unresolved_letters(files)
        account.look_again(await query.rows(connection, settings.group, left, handled_from=handled_from), letters)
        if not account.left.keys() - held - unread or time.monotonic() > deadline:
            account.close(held, unread, is_read=await query.is_read(connection, settings.group))
            return
        await asyncio.sleep(AGAIN)


async def _unread(
    settings: AuditSettings, client: httpx.AsyncClient, connection: asyncpg.Connection, among: set[str]
) -> set[str]:
    """Return those of these events that come after the group's cursor, so that they will still be read."""
    unread: set[str] = set()
    cursors: list[str | None] = [*await query.group_cursors(connection, settings.group)]
    for cursor in cursors or [None]:
        try:
            async for page in query.journal(client, settings.producer_url, cursor):
                unread.update(entry.event_id for entry in page if entry.event_id in among)
        except query.UnknownCursor:
            return among  # a client with a cursor that the journal does not know is sent everything
    return unread


async def _known(settings: AuditSettings, event_id: str, files: tuple[Path, ...]) -> dict[str, Any]:
    known: dict[str, Any] = {"event_id": event_id, "journal": None, "row": None, "listeners": {}, "letters": []}
    async with _everybody(settings) as (client, connection):
        entry = await query.first_entry(client, settings.producer_url, event_id)
        if entry is not None:
            known["journal"] = {"cursor": entry.cursor, "digest": entry.digest, "at": entry.at, "state": entry.state}
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        row = await query.row(connection, settings.group, event_id)
        known["row"] = None if row is None else {name: _readable(value) for name, value in row.items()}
        for url in settings.listeners:
            try:
                known["listeners"][url] = await query.known_to(client, url, event_id)
            except (httpx.TransportError, ValueError) as error:
                known["listeners"][url] = {"error": f"does not answer: {error}"}
    known["letters"] = letters_of(files, event_id)
    return known


@contextmanager
def _one_sentence(settings: AuditSettings) -> Iterator[None]:
    try:
        yield
    except FileError as error:
        raise UsageProblem(str(error)) from None
    except TimeoutError:
        raise UsageProblem(
            f"PostgreSQL at {settings.database_url} did not answer within {query.TIMEOUT:g} s: try again, or look for "
            "what keeps it busy in pg_stat_activity"
        ) from None
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
        raise UsageProblem(
            f"PostgreSQL has no tables of this version for group {settings.group}: correct GROUP or DATABASE_URL, or "
            "start a listener, or run unlost migrate"
        ) from None


def _readable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


@asynccontextmanager
async def _everybody(settings: AuditSettings) -> AsyncIterator[tuple[httpx.AsyncClient, asyncpg.Connection]]:
    try:
        connection = await Database(
            settings.database_url.reveal(), name="unlost audit", timeout=query.TIMEOUT, connect_timeout=query.TIMEOUT
        ).connect_alone()
    except (*LIBRARY_ERRORS, ValueError) as error:
        raise UsageProblem(f"PostgreSQL at {settings.database_url} cannot be reached: {error}") from None
    try:
        async with httpx.AsyncClient(trust_env=False) as client:
            yield client, connection
    finally:
        connection.terminate()
