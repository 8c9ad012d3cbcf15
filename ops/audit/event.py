"""``unlost event``: all that is known of one event."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
import httpx

from unlost.dlq.record.paths import letter_files
from unlost.ops.audit import query
from unlost.ops.audit.letters import letters_of, listed_of
from unlost.ops.audit.places import AuditSettings, everybody, files_argument, in_one_sentence, where
from unlost.ops.kit.command import command, say_json_text


@command(
    AuditSettings,
    examples=["unlost event order-17 .unlost/*/failed_events.jsonl"],
    params=[click.Argument(["event_id"]), files_argument],
)
def event(settings: AuditSettings, event_id: str, files: tuple[Path, ...]) -> int:
    """Show all that is known of the event EVENT_ID, as JSON: journal, row, listeners, letters.

    Letters are those of the fleet's list, or only those in FILES.
    """
    with in_one_sentence(settings):
        known = asyncio.run(_known(settings, event_id, files))
    say_json_text(json.dumps(known, indent=2, default=str, ensure_ascii=False))
    return 0 if any(known[place] for place in ("journal", "row", "letters")) else 1


async def _known(settings: AuditSettings, event_id: str, files: tuple[Path, ...]) -> dict[str, Any]:
    known: dict[str, Any] = {"event_id": event_id, "journal": None, "row": None, "listeners": {}, "letters": []}
    async with everybody(settings) as (client, reports):
        entry = await query.first_entry(client, settings.producer_url, event_id)
        if entry is not None:
            known["journal"] = {"cursor": entry.cursor, "digest": entry.digest, "at": entry.at, "state": entry.state}
        row = await reports.whole_row(event_id)
        known["row"] = None if row is None else {name: _readable(value) for name, value in row.items()}
        for url in settings.listeners:
            try:
                known["listeners"][url] = await query.known_to(client, url, event_id)
            except (httpx.TransportError, ValueError) as error:
                known["listeners"][url] = {"error": f"does not answer: {error}"}
        if settings.shard is not None:
            known["stored_by"] = settings.shard.group_of(event_id)
        known["letters_from"] = where(settings, files)
        known["letter_files"] = [str(file) for file in letter_files(files or settings.letters)]
        known["letters"] = [] if files else await listed_of(reports, event_id)
    listed = {one["letter_id"] for one in known["letters"]}
    known["letters"] += [
        one for one in letters_of(files or settings.letters, event_id) if one["letter_id"] not in listed
    ]
    return known


def _readable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
