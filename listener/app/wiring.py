"""The servers that an engine works with, behind their ports. This is the one place that opens them.

The simulation passes other adapters of the same ports to the same engine.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from unlost.listener.app.connection_settings import ConnectionSettings, ReadSettings
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.claims.redis.adapter import RedisClaims
from unlost.listener.claims.redis.servers import redis_servers
from unlost.listener.core.codec import EventCodec
from unlost.listener.core.codec_loading import codec_of
from unlost.listener.effects.http import HttpChannel
from unlost.listener.fast.pool import FAST
from unlost.listener.ports.claims import StandingClaims, StoreMemory
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.dead_letters import HealingLetters, LetterRegister
from unlost.listener.ports.effects import Channel, EffectRows
from unlost.listener.ports.gaps import Gaps
from unlost.listener.ports.membership import Membership
from unlost.listener.ports.notifications import Notifications
from unlost.listener.ports.pauses import Pauses
from unlost.listener.ports.rows import Rows
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.effects import PostgresEffects
from unlost.listener.store.postgres.gaps import PostgresGaps
from unlost.listener.store.postgres.grants import check_role
from unlost.listener.store.postgres.healing import PostgresHealing
from unlost.listener.store.postgres.letters import LetterTable
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import check, migrate
from unlost.listener.store.postgres.notifications import PostgresNotifications
from unlost.listener.store.postgres.pauses import PostgresPauses
from unlost.listener.store.postgres.pool import PLAIN
from unlost.listener.store.postgres.row_columns import make_ready
from unlost.listener.store.postgres.rows import PostgresRows
from unlost.listener.store.postgres.shadow import ShadowRows

KEPT_OPEN = 6
"""Connections to PostgreSQL that a listener nearly always needs: for batches in progress and the membership."""
IDLE_GRACE = 0.5
"""Added so that our own time limit for a handler acts first. PostgreSQL's limit is for a frozen process."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Redis and PostgreSQL, as one start of a process uses them."""

    redis: StoreMemory
    postgres: StandingClaims
    membership: Membership
    store: Rows
    register: LetterRegister
    healing: HealingLetters
    cursors: GroupCursors
    gaps: Gaps
    effects: EffectRows
    channel: Channel
    pauses: Pauses | None
    """None for a replay, which nothing pauses."""
    migrate: Callable[[], Awaitable[object]]
    close: Callable[[], Awaitable[None]]
    notifications: Notifications | None = None
    letters: LetterTable | None = None
    """The fleet's list of letters, in PostgreSQL."""
    shadow: ShadowRows | None = None
    """Runs a handler in transactions that are rolled back."""
    codec: EventCodec | None = None
    """What encodes content at rest, if anything."""
    stored_by_peers: Callable[[float], Awaitable[int]] | None = None
    """Counts the latest rows of other listeners, of the last seconds, whose ids are hashes."""


Connect = Callable[[ConnectionSettings, str], Servers]
"""Builds the servers for these settings and this token. Connections open when first needed."""


def standby_of(settings: ReadSettings, group: str, timeout: float) -> Database | None:
    """Return the standby that pages are read from, if there is one."""
    if settings.database_read_url is None:
        return None
    url = settings.database_read_url.reveal()
    return Database(url, group=group, name="unlost pages", connections=4, timeout=timeout)


def connect_servers(settings: ConnectionSettings, token: str, *, revives: bool = False) -> Servers:
    """Build the real servers. ``revives``: dead letters may become rows, as in a replay."""
    codec = codec_of(settings)
    database = _database_of(settings)
    redis = _redis_of(settings, token)
    postgres = PostgresClaims(database, token=token, lease_seconds=settings.lease, window_seconds=settings.dedup_window)

    channel = HttpChannel(settings.effect_options())

    async def prepare() -> None:
        # A replay makes no schema: a mistyped GROUP must not become a group that nobody reads.
        await (migrate if settings.migrate == "yes" and not revives else check)(database)
        if settings.handler_role:
            await check_role(database, settings.handler_role)

    async def close() -> None:
        await channel.close()
        await redis.close()
        await postgres.close()
        await database.close()

    rows = _rows_of(settings, database, token, codec, revives=revives)
    return Servers(
        redis=redis,
        postgres=postgres,
        membership=_membership_of(settings, database, token, listens=not revives),
        store=rows,
        stored_by_peers=rows.hashed_by_peers,
        register=PostgresLetterRegister(database, token=token),
        healing=_healing_of(settings, database, token, codec),
        cursors=PostgresCursors(database),
        pauses=None if revives else PostgresPauses(database),
        gaps=PostgresGaps(database, instance=settings.instance_id),
        effects=PostgresEffects(database, token=token, handler_role=settings.handler_role, codec=codec),
        channel=channel,
        notifications=PostgresNotifications(database),
        migrate=prepare,
        close=close,
        letters=LetterTable(database, token=token),
        codec=codec,
        shadow=ShadowRows(rows, database),
    )


def _membership_of(
    settings: ConnectionSettings, database: Database, token: str, *, listens: bool
) -> PostgresMembership:
    return PostgresMembership(
        database,
        token=token,
        instance_id=settings.instance_id,
        handler=settings.declared,
        changes_handler=settings.changes_handler,
        listens=listens,
    )


def _healing_of(
    settings: ConnectionSettings, database: Database, token: str, codec: EventCodec | None
) -> PostgresHealing:
    return PostgresHealing(
        database,
        token=token,
        instance=settings.instance_id,
        handler=settings.handler_name,
        attempts=settings.policy().heal.attempts,
        codec=codec,
    )


def _database_of(settings: ConnectionSettings) -> Database:
    return Database(
        settings.database_url.reveal(),
        connections=settings.database_connections + (settings.handle_concurrency if settings.handler else 0),
        kept_open=KEPT_OPEN,
        make_ready=partial(make_ready, group=settings.group),
        group=settings.group,
        timeout=settings.database_timeout,
        name=f"unlost {settings.instance_id}",
        kind=FAST if settings.fast == "on" else PLAIN,
    )


def _redis_of(settings: ConnectionSettings, token: str) -> RedisClaims:
    return RedisClaims(
        redis_servers(settings.redis_url.reveal(), timeout=settings.redis_timeout),
        token=token, group=settings.group, lease_seconds=settings.lease, window_seconds=settings.dedup_window,
        secret=settings.redis_secret.reveal(),
    )  # fmt: skip


def _rows_of(
    settings: ConnectionSettings, database: Database, token: str, codec: EventCodec | None, *, revives: bool
) -> PostgresRows:
    return PostgresRows(
        database,
        instance_id=settings.instance_id,
        token=token,
        handler=settings.handler_name,
        respects_burials=not revives,
        handler_role=settings.handler_role,
        # Longer than both, so it ends only an owner that is frozen: its row lock would hold up the next owner.
        longest_idle=max(settings.lease, settings.handle_timeout) + IDLE_GRACE,
        codec=codec,
    )
