"""``unlost journal``: list the groups for which a journal keeps events, and forget one. It may be in use.

``migrate`` beside them moves the journal (``migrate_journal.py``).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click
from pydantic import Field

from unlost.dlq.record.trail import Act, note_beside, whoami
from unlost.ops.kit.command import PathOrUrl, Settings, UsageProblem, command, main_group
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.upkeep.migrate_journal import migrate_journal
from unlost.producer.journal.address import JournalAddress, is_in_jetstream
from unlost.producer.journal.groups import Group
from unlost.producer.journal.port import JournalError
from unlost.producer.journal.postgres import groups as server_groups
from unlost.producer.journal.sqlite import groups as file_groups

ALIVE_SECONDS = 60.0
HERE = Path("journal")
"""A journal on a server has its trail beside this name, in the working directory."""


class JournalSettings(Settings):
    """Where the journal is."""

    journal: JournalAddress = Field(
        PathOrUrl("journal.sqlite3"), description="The journal: a file, postgresql://..., or nats://.../STREAM"
    )


class JournalGroups(Protocol):
    """The groups of an open journal."""

    def known(self) -> list[Group]:
        """All groups, including forgotten ones."""
        ...

    def newest(self) -> int:
        """The number of the newest entry."""
        ...

    def forget(self, name: str) -> bool:
        """Mark the group as forgotten. Returns whether it was known."""
        ...


@command(JournalSettings, name="groups", examples=["unlost journal groups --journal /var/lib/unlost/journal.sqlite3"])
def list_groups(settings: JournalSettings) -> int:
    """List the groups of listeners whose unread events the journal keeps."""
    with _opened(settings.journal) as groups:
        known, newest = groups.known(), groups.newest()
    if not known:
        click.echo(
            f"no listener has reported to this journal yet: of its {counted(newest, 'event')}, none is known as read"
        )
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
    with _opened(settings.journal) as groups:
        one = _named(group, [one for one in groups.known() if not one.forgotten])
        if abs(time.time() - one.at) < ALIVE_SECONDS:
            raise UsageProblem(
                f"group {one.name} reported {time.time() - one.at:,.0f} s ago and would be known again at once; "
                f"stop its listeners, wait {ALIVE_SECONDS:.0f} s, then forget it"
            )
        groups.forget(one.name)
    act = Act(whoami(), "unlost journal", "group forgotten", one.name, "", "done")
    note_beside(settings.journal.path or HERE, act)
    click.echo(f"group {one.name} is forgotten; a running producer knows it within 30 s")
    return 0


def _named(group: str, known: Sequence[Group]) -> Group:
    names = ", ".join(one.name for one in known) or "none"
    found = [one for one in known if one.name == group]
    found = found or [one for one in known if one.name.partition("@")[0] == group]
    if not found:
        raise UsageProblem(f"the journal knows no group {group!r}; it knows: {names}")
    if len(found) > 1:
        raise UsageProblem(f"group {group} reads from {len(found)} databases; name one of these: {names}")
    return found[0]


@contextmanager
def _opened(journal: PathOrUrl) -> Iterator[JournalGroups]:
    try:
        if is_in_jetstream(journal):
            from unlost.producer.journal.jetstream import groups as stream_groups  # needs a library of an extra

            with stream_groups.opened(journal.reveal()) as found:
                yield found
        elif journal.path is None:
            with server_groups.opened(journal.reveal()) as groups:
                yield groups
        else:
            with file_groups.opened(journal.path) as file:
                yield file_groups.FileGroups(file)
    except JournalError as error:
        raise UsageProblem(f"{error} (--journal)") from None


journal: click.Group = main_group(
    "journal",
    [list_groups, forget_group, migrate_journal],
    help="Manage a producer's journal: the groups for which it keeps events, and where it is.",
    examples=[
        "unlost journal groups",
        "unlost journal forget old-group",
        "unlost journal migrate journal.sqlite3 postgresql://unlost@db/journal",
    ],
)
