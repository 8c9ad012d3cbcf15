"""``unlost journal``: list the groups for which a journal keeps events, and forget one. It works on a file in use."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import click
from pydantic import Field

from unlost.ops.kit.command import Settings, UsageProblem, command, main_group
from unlost.producer.journal import groups

ALIVE_SECONDS = 60.0
T = TypeVar("T")


class JournalSettings(Settings):
    """The journal's file."""

    journal: Path = Field(Path("journal.sqlite3"), description="File of the journal")


@command(JournalSettings, name="groups", examples=["unlost journal groups --journal /var/lib/unlost/journal.sqlite3"])
def list_groups(settings: JournalSettings) -> int:
    """List the groups of listeners whose unread events the journal keeps."""
    known = _in(settings.journal, groups.groups_in)
    newest = _in(settings.journal, lambda file: int(file.execute("select max(number) from entries").fetchone()[0] or 0))
    if not known:
        click.echo("no group has reported to this journal")
    for one in known:
        state = "forgotten" if one.forgotten else f"{max(0, newest - one.settled):,} unread"
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(one.at))
        click.echo(f"{one.name}  {state}  settled up to number {one.settled:,}  last reported {at}")
    return 0


@command(
    JournalSettings,
    name="forget",
    examples=["unlost journal forget old-group --journal /var/lib/unlost/journal.sqlite3"],
    params=[click.Argument(["group"])],
)
def forget_group(settings: JournalSettings, group: str) -> int:
    """Forget a group whose listeners will not come back: the journal no longer keeps events for it.

    The id of its database, after the @, is needed only where groups of one name read from two databases.
    """
    one = _named(group, [one for one in _in(settings.journal, groups.groups_in) if not one.forgotten])
    if abs(time.time() - one.at) < ALIVE_SECONDS:
        raise UsageProblem(
            f"group {one.name} reported {time.time() - one.at:,.0f} s ago and would be known again at once; "
            f"stop its listeners, wait {ALIVE_SECONDS:.0f} s, then forget it"
        )
    _in(settings.journal, lambda file: groups.forget(file, one.name))
    click.echo(f"group {one.name} is forgotten; a running producer knows it within 30 s")
    return 0


def _named(group: str, known: Sequence[groups.Group]) -> groups.Group:
    names = ", ".join(one.name for one in known) or "none"
    found = [one for one in known if one.name == group]
    found = found or [one for one in known if one.name.partition("@")[0] == group]
    if not found:
        raise UsageProblem(f"the journal knows no group {group!r}; it knows: {names}")
    if len(found) > 1:
        raise UsageProblem(f"group {group} reads from {len(found)} databases; name one of these: {names}")
    return found[0]


def _in(path: Path, what: Callable[[sqlite3.Connection], T]) -> T:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)) as file:
            file.execute("pragma synchronous = full")
            return what(file)
    except sqlite3.Error as error:
        raise UsageProblem(f"{path} cannot be used as a journal: {error} (--journal)") from None


journal: click.Group = main_group(
    "journal",
    [list_groups, forget_group],
    help="Manage the groups for which a producer's journal keeps events.",
    examples=["unlost journal groups", "unlost journal forget old-group"],
)
