"""Records the outcome of an audit: in the table of audits, and in the trail if something is wrong."""

from unlost.dlq.record.trail import Act, whoami
from unlost.listener.core.errors import Misconfigured, Permanent, Transient
from unlost.listener.store.postgres.audits import record
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.trail import TableTrail
from unlost.ops.audit.account import Account
from unlost.ops.audit.places import AuditSettings
from unlost.ops.kit.command import say

NOTE_SECONDS = 3.0


async def recorded(settings: AuditSettings, account: Account, *, of_all: bool) -> int:
    """Record the outcome; return the exit code. A failure to record is a warning, and changes no exit code.

    ``of_all``: the audit read the letters of all listeners, so that dashboards and alerts may rely on it.
    """
    database = Database(
        settings.database_url.reveal(), group=settings.group, name="unlost audit", connections=1, timeout=NOTE_SECONDS
    )
    try:
        if of_all:
            await _record(database, account)
        if not account.is_balanced:
            await _note(database, account)
    finally:
        await database.close()
    return 0 if account.is_balanced else 1


async def _record(database: Database, account: Account) -> None:
    try:
        await record(database, whoami(), account.accepted, account.wrong())
    except (Transient, Permanent, Misconfigured) as error:
        say(
            f"warning: this audit cannot be recorded, so no alert knows of it: {error}; after an upgrade, run "
            "`unlost migrate` with the same --grants-console as before",
            err=True,
        )


async def _note(database: Database, account: Account) -> None:
    """Write into the trail what is wrong, of which listeners may notify people."""
    wrong = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in account.wrong().items())
    try:
        await TableTrail(database).append(Act(whoami(), "unlost audit", "audit not clean", "all events", "", wrong))
    except (Transient, Permanent, Misconfigured) as error:
        say(f"warning: the trail cannot be written: {error}", err=True)
