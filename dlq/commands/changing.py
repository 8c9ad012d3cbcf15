"""The commands that change states or files of letters: archive, quarantine, restore, note, assign, compact."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from unlost.dlq.commands.compact import compact as compact_file
from unlost.dlq.commands.compact import total
from unlost.dlq.commands.options import (
    LetterSettings,
    files_argument,
    files_of,
    filter_options,
    json_option,
    selection_of,
)
from unlost.dlq.commands.render import say_json, warn_of
from unlost.dlq.commands.store import ended, opened, run
from unlost.dlq.commands.trail import about, noted
from unlost.dlq.record.letter_state import What
from unlost.dlq.record.trail import Act, whoami
from unlost.dlq.store.files import replay_guards
from unlost.ops.kit.command import UsageProblem, command, say
from unlost.ops.kit.telemetry.counted import counted

ALL = click.Option(["--all", "everything"], is_flag=True, help="Change every letter, if no filter is given.")


@command(
    LetterSettings,
    examples=(
        "dlq archive --fingerprint 3f9c01ab --why 'test orders'",
        "dlq archive a.jsonl --until 90d --why old",
        "dlq archive --id order-4711 --why 'cancelled by phone' --followers go",
    ),
    params=[
        files_argument(),
        *filter_options(),
        json_option(),
        ALL,
        click.Option(["--why"], required=True, help="The reason, kept with the letters."),
        click.Option(
            ["--followers"],
            type=click.Choice(["wait", "go"]),
            help="What later events of the letters' keys do, with ORDER_BY: wait for restore, or go on without them.",
        ),
    ],
)
def archive(
    settings: LetterSettings,
    *,
    files: tuple[Path, ...],
    as_json: bool,
    everything: bool,
    why: str,
    followers: str | None,
    **filters: Any,
) -> int:
    """Put letters aside: a replay skips them, restore brings them back."""
    return _change(settings, files, filters, everything, "archived", why, as_json, followers=followers)


@command(
    LetterSettings,
    examples=("dlq restore --id order-4711", "dlq restore a.jsonl --state quarantined"),
    params=[files_argument(), *filter_options(), json_option(), ALL],
)
def restore(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, everything: bool, **filters: Any
) -> int:
    """Bring archived and quarantined letters back, with their count of failed replays at zero."""
    return _change(settings, files, filters, everything, "restored", "", as_json)


@command(
    LetterSettings,
    examples=("dlq quarantine --id order-4711 --why 'kills the handler'",),
    params=[
        files_argument(),
        *filter_options(),
        json_option(),
        ALL,
        click.Option(["--why"], required=True, help="The reason, kept with the letters."),
    ],
)
def quarantine(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, everything: bool, why: str, **filters: Any
) -> int:
    """Keep letters from replays and from healing until restore brings them back."""
    return _change(settings, files, filters, everything, "quarantined", why, as_json)


@command(
    LetterSettings,
    examples=("dlq note 'asked the supplier' --id order-4711", "dlq note 'see the ticket' --fingerprint 3f9c01ab"),
    params=[click.Argument(["written"], metavar="TEXT"), files_argument(), *filter_options(), json_option(), ALL],
)
def note(
    settings: LetterSettings, *, written: str, files: tuple[Path, ...], as_json: bool, everything: bool, **filters: Any
) -> int:
    """Add a note to letters. It changes no state; dlq show shows it with everything else that happened."""
    return _change(settings, files, filters, everything, "noted", written, as_json)


@command(
    LetterSettings,
    examples=(
        "dlq assign 'supplier sends no sku' --fingerprint 3f9c01ab",
        "dlq list --assigned 'supplier sends no sku'",
    ),
    params=[click.Argument(["cause"]), files_argument(), *filter_options(), json_option(), ALL],
)
def assign(
    settings: LetterSettings, *, cause: str, files: tuple[Path, ...], as_json: bool, everything: bool, **filters: Any
) -> int:
    """Assign a cause to letters, by which --assigned finds them. An empty text takes it away."""
    return _change(settings, files, filters, everything, "assigned", cause, as_json)


def _change(
    settings: LetterSettings,
    files: tuple[Path, ...],
    filters: dict[str, Any],
    everything: bool,
    what: What,
    detail: str,
    as_json: bool,
    *,
    followers: str | None = "wait",
) -> int:
    selection = selection_of(filters)
    if selection.everything and not everything:
        raise UsageProblem("say which letters are meant, by --id or another filter, or give --all")

    async def work() -> int:
        async with opened(settings, files) as store:
            if followers is None and (blocking := await store.blocking(selection)):
                raise UsageProblem(
                    f"{counted(blocking, 'letter')} of these may block a key, and later events of the key wait; say "
                    "--followers wait to keep it blocked, or --followers go to give up the order behind these letters"
                )
            changed = await store.change(selection, what, detail, whoami(), followers_go=followers == "go")
            warn_of(store.damages)
            letters, result = about(selection, store.where), counted(changed, "letter")
            await noted(settings, files, Act(whoami(), "dlq", what, letters, detail, result))
            if as_json:
                say_json({what: changed})
            else:
                say(f"{what} {counted(changed, 'letter')}")
        return 0

    return run(work)


@command(
    LetterSettings,
    examples=("dlq compact", "dlq compact a.jsonl --drop-archived --json"),
    params=[
        files_argument(),
        json_option(),
        click.Option(["--drop-archived"], is_flag=True, help="Drop archived letters too."),
        click.Option(["--drop-damaged"], is_flag=True, help="Drop lines that cannot be read too."),
    ],
)
def compact(
    settings: LetterSettings, *, files: tuple[Path, ...], as_json: bool, drop_archived: bool, drop_damaged: bool
) -> int:
    """Rewrite the files without resolved letters, while listeners keep running.

    A dropped letter cannot be reopened if an older backup of PostgreSQL is restored later.
    """
    paths = files_of(settings, files)

    def work() -> int:
        with replay_guards(paths):
            every = [compact_file(path, drop_archived=drop_archived, drop_damaged=drop_damaged) for path in paths]
        sums = total(every)
        names, result = ", ".join(map(str, paths)), f"kept {counted(sums.kept, 'letter')}, dropped {sums.dropped:,}"
        asyncio.run(noted(settings, files, Act(whoami(), "dlq", "compacted", names, "", result)))
        if as_json:
            say_json(asdict(sums))
            return 0
        bytes_became = f"{sums.bytes_before:,} bytes became {sums.bytes_after:,}"
        say(f"kept {counted(sums.kept, 'letter')}, dropped {sums.dropped:,}; {bytes_became}")
        if sums.damaged_kept or sums.damaged_dropped:
            say(f"damaged lines: kept {sums.damaged_kept:,}, dropped {sums.damaged_dropped:,}")
        return 0

    return ended(work)
