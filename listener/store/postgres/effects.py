"""The table ``effects``: recorded in the transaction of the row, delivered by whichever listener takes them.

Two listeners never hold the same effect: taking is one statement with ``for update skip locked``, and the lease ends by
PostgreSQL's clock. A listener that dies leaves what it held to the others once its leases have ended.
"""

import hashlib
from collections.abc import Sequence
from typing import cast

import asyncpg
import msgspec

from unlost.listener.core.codec import WITHHELD, EventCodec, Unreadable, is_coded
from unlost.listener.core.effects import Effect, NewEffect, body_of, key_of
from unlost.listener.core.event import Event
from unlost.listener.ports.rows import HandlerConnection
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.errors import LIBRARY_ERRORS, translated
from unlost.listener.store.postgres.grants import become

COUNTED = 10_000
"""At most so many waiting effects are counted: the figure is asked for again and again."""
LONGEST_WHY = 2_000


class PostgresEffects:
    """``EffectRows``, in the name of one start of a process."""

    def __init__(
        self, database: Database, *, token: str, handler_role: str = "", codec: EventCodec | None = None
    ) -> None:
        """``handler_role``: the role that a handler has in its transaction, if not ours. It may not write effects.

        ``codec``: encodes addresses, headers and bodies. Hosts stay as they are.
        """
        self._database = database
        self._token = token
        self._handler_role = handler_role
        self._codec = codec
        self._sql = database.statements("unlost.listener.store.postgres", "effects.sql")

    async def record(self, connection: HandlerConnection, event: Event, effects: Sequence[NewEffect]) -> None:
        """See ``EffectRows``."""
        own, event_id = cast("Connection", connection), event.event_id
        bodies = [body_of(one, self._key(event_id, number)) for number, one in enumerate(effects, 1)]
        if self._codec is not None:
            bodies = [_coded(one, body, event, self._codec) for one, body in zip(effects, bodies, strict=True)]
            effects = [_without_content(one) for one in effects]
        try:
            if self._handler_role:
                await own.execute("RESET ROLE")
            await own.execute(
                self._sql["record"], event_id, list(range(1, len(effects) + 1)),
                [one.kind for one in effects], [one.url for one in effects], [one.host for one in effects],
                [msgspec.json.encode(one.headers).decode() for one in effects], bodies, [one.queue for one in effects],
            )  # fmt: skip
            if self._handler_role:  # what the commit runs, such as deferred triggers, is the handler's
                await become(own, self._handler_role)
        except LIBRARY_ERRORS as error:
            raise translated(error, "recording effects") from error

    async def take(self, most: int, *, lease: float, skip: Sequence[str], only: str | None = None) -> list[Effect]:
        """See ``EffectRows``."""
        async with self._database.acquire("taking effects") as connection:
            rows = await connection.fetch(self._sql["take"], self._token, lease, most, skip, only)
        return [self._effect(row) for row in rows]

    async def delivered(self, effect: Effect) -> None:
        """See ``EffectRows``."""
        async with self._database.acquire("recording a delivered effect") as connection:
            await connection.execute(self._sql["delivered"], effect.event_id, effect.number)

    async def failed(self, effect: Effect, why: str, *, wait: float, counts: bool) -> None:
        """See ``EffectRows``."""
        async with self._database.acquire("recording an effect that failed") as connection:
            await connection.execute(
                self._sql["failed"], effect.event_id, effect.number, self._token, self._kept(why), wait, counts,
                effect.taken_until,
            )  # fmt: skip

    async def buried(self, effect: Effect, letter_id: str, why: str) -> None:
        """See ``EffectRows``."""
        async with self._database.acquire("recording the letter of an effect") as connection:
            await connection.execute(
                self._sql["buried"], effect.event_id, effect.number, self._token, self._kept(why), letter_id,
                effect.taken_until,
            )  # fmt: skip

    async def revive(self, event_id: str, number: int, *, lease: float) -> Effect | str:
        """See ``EffectRows``."""
        async with self._database.acquire("taking the effect of a letter") as connection:
            row = await connection.fetchrow(self._sql["revive"], event_id, number, self._token, lease)
            if row is not None:
                return self._effect(row)
            status = await connection.fetchval(self._sql["status"], event_id, number)
        return "gone" if status is None else "delivered" if status == "delivered" else "taken"

    async def waiting(self) -> tuple[int, float]:
        """See ``EffectRows``."""
        async with self._database.acquire("counting effects") as connection:
            row = await connection.fetchrow(self._sql["waiting"], COUNTED)
        return (0, 0.0) if row is None else (row[0], row[1])

    async def prune(self, older_than_seconds: float, *, batch: int = 5_000) -> int:
        """Delete effects that ended so long ago, and need no replay; return how many, at most ``batch``."""
        async with self._database.acquire("deleting old effects") as connection:
            status = await connection.execute(self._sql["prune"], older_than_seconds, batch, timeout=60)
        return int(status.rsplit(" ", 1)[-1])

    def _key(self, event_id: str, number: int) -> str:
        return key_of(self._database.group, event_id, number)

    def _kept(self, why: str) -> str:
        """Return what is kept of an answer, which may quote what was sent."""
        return _text(why) if self._codec is None else WITHHELD

    def _effect(self, row: asyncpg.Record) -> Effect:
        event_id, number, kind, url, host, headers, body, attempts, until = row
        known = msgspec.json.decode(headers, type=dict[str, str])
        key = self._key(event_id, number)
        effect = Effect(event_id, number, key, kind, url, host, known, body, attempts, taken_until=until)
        return effect if self._codec is None or not is_coded(body) else _decoded(effect, self._codec)


class _Content(msgspec.Struct):
    """The encoded part of an effect."""

    url: str
    headers: dict[str, str]
    body: bytes


def _coded(effect: NewEffect, body: bytes, event: Event, codec: EventCodec) -> bytes:
    return codec.encode_about(event, msgspec.json.encode(_Content(effect.url, effect.headers, body)))


def _without_content(effect: NewEffect) -> NewEffect:
    """Return the plain part of an effect. The name of its queue is an address, so its digest takes its place."""
    queue = effect.queue and hashlib.sha256(effect.queue.encode()).hexdigest()
    return msgspec.structs.replace(effect, url="", headers={}, queue=queue)


def _decoded(effect: Effect, codec: EventCodec) -> Effect:
    try:
        content = msgspec.json.decode(codec.decode(effect.body, event_id=effect.event_id), type=_Content)
    except Unreadable as error:
        url = f"https://{effect.host}/" if effect.kind == "post" else ""
        return msgspec.structs.replace(effect, url=url, unreadable=str(error))
    return msgspec.structs.replace(effect, url=content.url, headers=content.headers, body=content.body)


def _text(why: str) -> str:
    return why.replace("\x00", "\ufffd")[:LONGEST_WHY]
