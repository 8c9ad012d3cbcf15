"""``unlost audit`` accounts for every accepted event. ``unlost event`` shows all that is known of one event."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import click
import httpx

from unlost.dlq.record.paths import letter_files
from unlost.listener.store.postgres.reports import DeclaredGap, Reports
from unlost.ops.audit import query
from unlost.ops.audit.account import Account
from unlost.ops.audit.letters import in_list_and, unresolved_letters
from unlost.ops.audit.places import AuditSettings, everybody, files_argument, in_one_sentence, where
from unlost.ops.audit.recording import recorded
from unlost.ops.audit.repeating import RepeatedAudit
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.command.age import seconds_of
from unlost.ops.kit.command.daemon import run_daemon
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.printable import printable

AGAIN = 0.5
MOST_GAPS = 100
"""How many of the declared gaps are shown, the latest ones."""


_as_json = click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")


@command(
    AuditSettings,
    examples=[
        "unlost audit",
        "unlost audit .unlost/*/failed_events.jsonl",
        "unlost audit --json a/failed_events.jsonl",
        "unlost audit --every 1h",
    ],
    params=[
        files_argument,
        click.Option(
            ["--every"], help="Audit again and again until SIGTERM, each time after this interval, such as 1h."
        ),
        _as_json,
    ],
)
def audit(settings: AuditSettings, files: tuple[Path, ...], every: str | None, as_json: bool) -> int:
    """Account for every event that the producer accepted: row, letter, in flight, waiting, or missing.

    Letters are those of the fleet's list, or only those in FILES. Unread events wait for a group that has no listener.
    Without FILES the outcome is recorded, for the console and its metrics.
    """
    if every is None:
        return asyncio.run(_one(settings, files, as_json=as_json))
    seconds = seconds_of(every, "--every", "1h")
    if seconds < 1:
        raise UsageProblem(f"--every: the interval is at least 1s, not {every!r}")
    run_daemon(lambda: RepeatedAudit(lambda: _one(settings, files, as_json=as_json), seconds))
    return 0


async def _one(settings: AuditSettings, files: tuple[Path, ...], *, as_json: bool) -> int:
    """Audit once, print and record the outcome, and return the exit code."""
    with in_one_sentence(settings):
        account, gaps = await audited(settings, files)
        read = [str(file) for file in letter_files(files or settings.letters)]
    _print_remarks(settings, files, account, read)
    if as_json:
        _print_json(account, gaps, read)
    else:
        _print(account, gaps)
    return await recorded(settings, account, of_all=not files)


def _print_remarks(settings: AuditSettings, files: tuple[Path, ...], account: Account, read: list[str]) -> None:
    say(f"letters: {where(settings, files)}", err=True)
    for file in read:
        say(f"letters: read {printable(file)}", err=True)
    if settings.shard is not None:
        say(f"this is shard {settings.shard}: only its events are counted, and each shard has its own audit", err=True)
    if account.unread:
        haste = "" if account.is_retained else " soon: the producer has forgotten the group, and may drop them"
        say(
            f"group {settings.group} has no live listener: nobody reads {counted(account.unread, 'event')}; "
            f"start one{haste}",
            err=True,
        )
    if account.missing and not files and not settings.letters:
        say(
            "letters that a listener has not shipped to PostgreSQL yet count as missing here: set LETTERS to the "
            "dead-letter files of the listeners",
            err=True,
        )


def _print_json(account: Account, gaps: list[DeclaredGap], read: list[str]) -> None:
    ids = {f"{word}_ids": ids for word, ids in account.ids().items()}
    more = {"letter_files": read, "declared_gaps": [gap._asdict() for gap in gaps]}
    say(json.dumps({**account.counts(), **ids, **more}))


def _print(account: Account, gaps: list[DeclaredGap]) -> None:
    for name, count in account.counts().items():
        say(f"{name.replace('_', ' '):<14}{count:>12,}")
    for word, ids in account.ids().items():
        for event_id in ids:
            say(f"{word}: {printable(event_id)}")
    for gap in gaps:
        say(printable(_in_words(gap)))
    if account.gaps > len(gaps):
        say(f"gap: {counted(account.gaps - len(gaps), 'earlier one is', 'earlier ones are')} in the table gaps")


def _in_words(gap: DeclaredGap) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(gap.declared_at))
    missing = "an unknown number of events" if gap.missing is None else counted(gap.missing, "event")
    filled = f", {gap.backfilled:,} of them received since" if gap.backfilled else ""
    between = f"after {gap.after or '?'} and before {gap.resumed_at or '?'}"
    return (
        f"gap: {gap.source} at {when}, seen by {gap.instance} ({gap.how}): {missing} {between}{filled}{_fetched(gap)}"
    )


def _fetched(gap: DeclaredGap) -> str:
    """Say what came of fetching a gap's events."""
    why = f": {gap.why}" if gap.why else ""
    match gap.outcome:
        case "filled":
            return "; its events were fetched"
        case "partly":
            return f"; its events were fetched in part{why}"
        case "failed":
            return f"; its events could not be fetched{why}"
        case _:
            return f"; fetched {counted(gap.fetches, 'time')} in vain so far{why}" if gap.fetches else ""


async def audited(settings: AuditSettings, files: tuple[Path, ...]) -> tuple[Account, list[DeclaredGap]]:
    """Query all parts; return the closed account, and the latest declared gaps."""
    account = Account()
    letter_files(files or settings.letters)  # a wrong name is reported before any server is queried
    async with everybody(settings) as (client, reports):
        letters, account.damaged_lines = await _letters(settings, files, reports)
        handled_from = await query.handled_from(client, settings.listeners, reports)
        retained = await query.retained(client, settings.producer_url, reports, settings.group)
        account.dropped, account.is_retained = retained.dropped, retained.waits
        async for page in query.journal(client, settings.producer_url, shard=settings.shard):
            ids = [entry.event_id for entry in page]
            account.accept(page, await query.rows(reports, ids, handled_from=handled_from), letters)
        await _close(account, settings, files, client, reports, handled_from)
        account.gaps = await reports.count_gaps()
        return account, await reports.gaps(MOST_GAPS)


async def _letters(settings: AuditSettings, files: tuple[Path, ...], reports: Reports) -> tuple[Counter[str], int]:
    """Count letters in the files that were named, or in the fleet's list and what it lacks of the files of LETTERS."""
    return unresolved_letters(files) if files else await in_list_and(settings.letters, reports)


async def _close(
    account: Account,
    settings: AuditSettings,
    files: tuple[Path, ...],
    client: httpx.AsyncClient,
    reports: Reports,
    handled_from: int | None,
) -> None:
    """Query again for events that were found nowhere, or twice: they may have been moving from one place to another."""
    deadline = time.monotonic() + settings.settle
    while account.left or account.doubled:
        left = [*account.left]
        held = await query.in_flight(client, settings.listeners, left)
        unread = await _unread(settings, client, reports, set(left))
        letters, account.damaged_lines = await _letters(settings, files, reports)
        rows = await query.rows(reports, [*left, *account.doubled], handled_from=handled_from)
        account.look_again(rows, letters)
        account.look_again_at_doubled(rows.keys(), letters)
        is_clear = not (account.doubled or account.left.keys() - held - unread)
        if is_clear or time.monotonic() > deadline:
            account.close(held, unread, is_read=await reports.is_read())
            return
        await asyncio.sleep(AGAIN)


async def _unread(settings: AuditSettings, client: httpx.AsyncClient, reports: Reports, among: set[str]) -> set[str]:
    """Return those of these events that come after the group's cursor, so that they will still be read."""
    unread: set[str] = set()
    cursors: list[str | None] = [*await reports.cursors()]
    for cursor in cursors or [None]:
        try:
            async for page in query.journal(client, settings.producer_url, cursor, shard=settings.shard):
                unread.update(entry.event_id for entry in page if entry.event_id in among)
        except query.UnknownCursor:
            return among  # a client with a cursor that the journal does not know is sent everything
    return unread
