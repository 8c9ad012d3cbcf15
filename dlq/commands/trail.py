"""Writes the trail of the ``dlq`` commands: into PostgreSQL if the command uses it and it answers, else into a file.

The file stands beside the first file of letters, with ``.trail`` after its name. A change that was made stays if the
trail cannot be written: that is reported on stderr.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from unlost.dlq.commands.options import files_of
from unlost.dlq.commands.store import TIMEOUT, StoreSettings
from unlost.dlq.record.file import FileError
from unlost.dlq.record.query import QUOTING, Selection
from unlost.dlq.record.trail import Act, BrokenTrail, note_beside, trail_beside, warn_unwritten
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.ops.kit.command import UsageProblem, say
from unlost.ops.kit.telemetry.counted import counted

if TYPE_CHECKING:
    from unlost.listener.store.postgres.trail import TableTrail


async def noted(settings: StoreSettings, files: Sequence[Path], act: Act, *, away: bool = False) -> None:
    """Write an act into the trail. ``away``: PostgreSQL is known not to answer, so it is not asked."""
    url = settings.database_url
    if away:
        say("warning: the trail goes on in a file: PostgreSQL does not answer", err=True)
    elif url is not None and "database_url" in settings.model_fields_set:
        from unlost.listener.store.postgres.database import Database
        from unlost.listener.store.postgres.trail import TableTrail

        database = Database(
            url.reveal(), group=settings.group, name="dlq", connections=1, timeout=TIMEOUT, connect_timeout=TIMEOUT
        )
        trail = TableTrail(database)
        try:
            await _merge(trail, _beside(settings, files))
            await trail.append(act)
        except (Transient, Permanent, Misconfigured) as error:
            say(f"warning: the trail in PostgreSQL cannot be written ({error}); it goes on in a file", err=True)
        else:
            return
        finally:
            await database.close()
    _into_file(settings, files, act)


async def _merge(trail: "TableTrail", file: Path | None) -> None:
    """Take over what was written beside the file while PostgreSQL was away."""
    if file is None or not (beside := trail_beside(file)).exists():
        return
    try:
        if count := await trail.merge(beside):
            say(f"{counted(count, 'entry', 'entries')} of {beside} came into the trail in PostgreSQL", err=True)
    except (BrokenTrail, OSError) as error:
        say(f"warning: {error}; its entries stay out of the trail in PostgreSQL", err=True)


def _beside(settings: StoreSettings, files: Sequence[Path]) -> Path | None:
    """The file beside which the trail goes on; None if there is none."""
    try:
        found = files_of(settings, files)
    except (FileError, UsageProblem):
        return None
    return found[0] if found else settings.dead_letter_file


def _into_file(settings: StoreSettings, files: Sequence[Path], act: Act) -> None:
    try:
        beside = files_of(settings, files)
    except (FileError, UsageProblem) as error:
        warn_unwritten(error)
    else:
        note_beside(beside[0] if beside else settings.dead_letter_file, act)


def about(selection: Selection, where: str) -> str:
    """The letters that a selection means, in words, without values that may quote a payload."""
    given = {one.name: getattr(selection, one.name) for one in fields(selection)}
    words = [
        name if name in QUOTING else f"{name}={_plain(value)}"
        for name, value in given.items()
        if value not in ((), frozenset(), "", None, False)
    ]
    return f"{' '.join(words) or 'all'} in {where}"


def _plain(value: object) -> str:
    return ",".join(sorted(map(str, value))) if isinstance(value, tuple | frozenset) else str(value)
