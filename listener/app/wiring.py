"""The servers that an engine works with, behind their ports. This is the one place that opens them.

A simulation gives the same engine other adapters of the same ports.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from unlost.listener.app.settings import ConnectionSettings
from unlost.listener.claims.postgres.adapter import PostgresClaims
from unlost.listener.claims.redis.adapter import RedisClaims, connect_redis
from unlost.listener.fast.pool import FAST
from unlost.listener.ports.claims import StandingClaims, StoreMemory
from unlost.listener.ports.cursors import GroupCursors
from unlost.listener.ports.dead_letters import LetterRegister
from unlost.listener.ports.membership import Membership
from unlost.listener.ports.rows import Rows
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.cursors import PostgresCursors
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.membership import PostgresMembership
from unlost.listener.store.postgres.migrations import check, migrate
from unlost.listener.store.postgres.pool import PLAIN
from unlost.listener.store.postgres.rows import PostgresRows, make_ready

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
    cursors: GroupCursors
    migrate: Callable[[], Awaitable[object]]
    close: Callable[[], Awaitable[None]]


Connect = Callable[[ConnectionSettings, str], Servers]
"""Builds the servers for these settings and this token. Connections open when first needed."""


def connect_servers(settings: ConnectionSettings, token: str, *, revives: bool = False) -> Servers:
    """Build the real servers. ``revives``: dead letters may become rows, as in a replay."""
    database = Database(
        settings.database_url.reveal(),
        connections=settings.database_connections + (settings.handle_concurrency if settings.handler else 0),
        kept_open=KEPT_OPEN,
        make_ready=partial(make_ready, group=settings.group),
        group=settings.group,
        timeout=settings.database_timeout,
        name=f"unlost {settings.instance_id}",
        kind=FAST if settings.fast == "on" else PLAIN,
    )
    redis = RedisClaims(
        connect_redis(settings.redis_url.reveal(), timeout=settings.redis_timeout),
        token=token, group=settings.group, lease_seconds=settings.lease,
        window_seconds=settings.dedup_window, shards=settings.redis_shards, timeout=settings.redis_timeout,
    )  # fmt: skip
    postgres = PostgresClaims(database, token=token, lease_seconds=settings.lease, window_seconds=settings.dedup_window)

    async def close() -> None:
        await redis.close()
        await postgres.close()
        await database.close()

    return Servers(
        redis=redis,
        postgres=postgres,
        membership=PostgresMembership(
            database,
            token=token,
            instance_id=settings.instance_id,
            handler=settings.handler_name,
            changes_handler=settings.changes_handler,
            listens=not revives,
        ),
        store=PostgresRows(
            database,
            instance_id=settings.instance_id,
            token=token,
            handler=settings.handler_name,
            respects_burials=not revives,
            longest_idle=max(settings.lease, settings.handle_timeout) + IDLE_GRACE,
        ),
        register=PostgresLetterRegister(database, token=token),
        cursors=PostgresCursors(database),
        # A replay makes no schema: a mistyped GROUP must not become a group that nobody reads.
        migrate=lambda: (migrate if settings.migrate == "yes" and not revives else check)(database),
        close=close,
    )
