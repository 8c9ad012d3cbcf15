"""Output for people: tables as wide as the terminal, plain aligned text in a pipe, JSON on request.

Control characters in text from events and errors are escaped, so that it cannot control the terminal.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unlost.dlq.record.file import DamagedLine
from unlost.dlq.record.letter import iso
from unlost.dlq.record.letter_line import letter_values
from unlost.dlq.record.letter_state import Record
from unlost.dlq.record.query import SHORT_ID
from unlost.dlq.replay.plan import ReplayReport
from unlost.dlq.store.entries import LetterEntry, LetterGroup, Statistics, position_values, state_values
from unlost.dlq.store.port import Plan
from unlost.listener.core.shortened import shortened
from unlost.ops.kit.command import say, say_json_text
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.printable import printable

GAP = 2
IN_A_PIPE = 200
"""The longest text in a pipe, so that a long error makes no line of kilobytes. ``--json`` has all of it."""


def minute(at: float | None) -> str:
    """Format a time for a table."""
    return "" if at is None else iso(at)[:19].replace("T", " ")


def say_json(value: Any) -> None:
    """Print a value as indented JSON."""
    say_json_text(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int) -> None:
    """Print rows under headings. The column ``flexible`` is shortened: to the terminal, or to a limit in a pipe."""
    tamed = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        _print_plain(
            columns, [[_cut(cell, IN_A_PIPE) if i == flexible else cell for i, cell in enumerate(row)] for row in tamed]
        )
        return
    console = Console()
    # Shortened here, because rich drops whole columns before it shortens a long one.
    fixed = sum(max(len(row[i]) for row in (columns, *tamed)) + GAP for i in range(len(columns)) if i != flexible)
    room = max(console.width - fixed, 12)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in tamed:
        table.add_row(*(Text(_cut(cell, room) if i == flexible else cell) for i, cell in enumerate(row)))
    console.print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    every = [list(columns), *rows]
    widths = [max(len(row[index]) for row in every) for index in range(len(columns))]
    for row in every:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_entries(found: Sequence[LetterEntry]) -> None:
    """Letters, one per row. A terminal shows only the end of a letter's id, which ``show`` accepts."""
    short = sys.stdout.isatty()
    print_table(
        ("LETTER", "LAST", "EVENT", "REASON", "STATE", "ERROR"),
        [
            (
                letter.letter_id[-SHORT_ID:] if short else letter.letter_id,
                minute(letter.last_at)[5:16] if short else iso(letter.last_at),
                _cut(letter.event_id or "-", 14) if short else letter.event_id or "-",
                letter.reason,
                entry.state.status,
                f"{letter.error_type}: {letter.message}",
            )
            for entry in found
            for letter in (entry.letter,)
        ],
        flexible=5,
    )


def print_groups(found: Sequence[LetterGroup]) -> None:
    """Groups, the largest first."""
    short = sys.stdout.isatty()
    print_table(
        ("GROUP", "LETTERS", "WAITING", "FIRST", "LAST", "FAILURE"),
        [
            (
                one.fingerprint[:8] if short else one.fingerprint,
                f"{one.letters:,}",
                f"{one.waiting:,}",
                minute(one.first_at)[5:16] if short else iso(one.first_at),
                minute(one.last_at)[5:16] if short else iso(one.last_at),
                f"{one.reason}, {one.error_type}: {one.message}",
            )
            for one in found
        ],
        flexible=5,
    )


def history_values(history: Mapping[str, Sequence[Record]], entry: LetterEntry) -> list[dict[str, Any]]:
    """The history of a letter, as plain values."""
    return list(map(_record_values, history.get(entry.letter.letter_id, ())))


def _record_values(one: Record) -> dict[str, Any]:
    made = one.edit
    edit = {} if made is None else {"version": made.version, "base": made.base, "how": made.how}
    event = {} if made is None else {"event": msgspec.Raw(made.event)}
    return {"at": iso(one.at), "what": one.what, "by": one.by, "detail": one.detail, **edit, **event}


def _print_history(history: Sequence[Record], width: int) -> None:
    for one in history:
        made = one.edit
        version = "" if made is None else f" version {made.version} from version {made.base} by {made.how}"
        line = f"{iso(one.at)} {one.what}{version}{f' by {one.by}' if one.by else ''}"
        say(f"{'history':<{width}}  {printable(line)}" + (f": {printable(one.detail)}" if one.detail else ""))


def print_entry(entry: LetterEntry, history: Sequence[Record] = ()) -> None:
    """Everything about one letter, and what happened to it."""
    values = {**letter_values(entry.letter), **position_values(entry)}
    event, attempts = values.pop("event", None), values.pop("attempts")
    state = state_values(entry.state)
    width = max(map(len, values))
    for name, value in values.items():
        say(f"{name:<{width}}  {printable(str(value))}")
    line = f"{state['status']}, {state['failed_replays']} failed replays"
    by = f" by {printable(state['by'])}" if state["by"] else ""
    say(f"{'state':<{width}}  {line}" + (f", {state['at']}{by}" if state["at"] else ""))
    if state["detail"]:
        say(f"{'':<{width}}  {printable(state['detail'])}")
    if entry.unreadable:
        say(f"{'unreadable':<{width}}  {printable(entry.unreadable)}")
    if state["assigned"]:
        say(f"{'assigned':<{width}}  {printable(state['assigned'])}")
    _print_history(history, width)
    for number, one in enumerate(attempts, 1):
        line = f"{one['at']} {one['stage']} {one['error_class']} {one['error_type']}: {one['message']}"
        say(f"{f'attempt {number}':<{width}}  {printable(line)}")
        for line in one.get("traceback", "").splitlines():
            say(f"{'':<{width}}    {printable(line)}")
    if event is not None:
        say("event")
        say_json_text(bytes(event).decode(errors="backslashreplace"))
    if entry.edited is not None:
        say(f"version {entry.state.version}")
        say_json_text(entry.edited.decode(errors="backslashreplace"))


def print_statistics(sums: Statistics, damaged: int, size: int, where: str) -> None:
    """The statistics."""
    files = f", {size:,} bytes, {counted(damaged, 'damaged line')}" if size else f", in {where}"
    say(f"letters   {sums.letters:,} ({sums.waiting:,} waiting){files}")
    if sums.first_at is not None:
        say(f"from      {minute(sums.first_at)} to {minute(sums.last_at)} UTC")
    for name, words in (("reason", sums.by_reason), ("class", sums.by_class), ("state", sums.by_state)):
        line = ", ".join(f"{word} {number:,}" for word, number in words.most_common())
        if line:
            say(f"{name:<8}  {line}")


def warn_of(damages: Iterable[DamagedLine], *, most: int = 5) -> None:
    """Warn on stderr about damaged lines."""
    damages = list(damages)
    for one in damages[:most]:
        say(f"warning: skipped {one.length:,} bytes at offset {one.offset:,} of {one.file}: {one.reason}", err=True)
    if len(damages) > most:
        say(f"warning: and {len(damages) - most:,} more damaged lines; see dlq verify", err=True)


def print_plan(plan: Plan) -> None:
    """The plan of a replay."""
    reasons = ", ".join(f"{word} {number:,}" for word, number in plan.by_reason.most_common())
    say(f"to replay    {plan.letters:,}" + (f" ({reasons})" if reasons else ""))
    over = ", ".join(f"{word} {number:,}" for word, number in plan.over.most_common())
    if over:
        say(f"passed over  {over}")
    if plan.over["rejected"]:
        say(
            "             what a handler rejected is replayed only with --reason rejected, --id, --fingerprint or --all"
        )


def print_report(report: ReplayReport, planned: int) -> None:
    """How a replay went."""
    say(f"resolved     {report.resolved:,} ({report.already_stored:,} were stored already)")
    if report.failed:
        say(f"failed       {report.failed:,} ({report.quarantined:,} now in quarantine)")
        for why, number in report.failures.most_common(5):
            beginning = f"             {number:,} x "
            room = max(Console().width - len(beginning), 40) if sys.stdout.isatty() else IN_A_PIPE
            say(beginning + shortened(printable(why), room))
    if report.elsewhere:
        say(f"left         {report.elsewhere:,} to another replay, which runs them now")
    if report.unreadable:
        say(f"unreadable   {report.unreadable:,} (dlq list says why)")
    if report.behind:
        say(f"blocked      {report.behind:,} by an earlier letter of the same key, see dlq keys")
    if planned > (passed := report.done + report.behind + report.elsewhere + report.unreadable):
        say(f"not reached  {planned - passed:,}")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
