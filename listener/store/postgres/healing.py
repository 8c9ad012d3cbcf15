"""Letters in the fleet's list that listeners retry by themselves: which listener retries which, and the outcome."""

import time
from collections.abc import Sequence

import asyncpg

from unlost.dlq.record.coded import decoded
from unlost.dlq.record.event import edited_as
from unlost.dlq.record.letter import Letter
from unlost.dlq.record.letter_line import Damaged, decode
from unlost.dlq.record.letter_state import Record, later_than
from unlost.listener.core.codec import WITHHELD, EventCodec, Unreadable
from unlost.listener.ports.dead_letters import HealingGroup, HealingLetter, Resolved, Tried
from unlost.listener.store.burials import frame_of, is_claimed, resolved_of
from unlost.listener.store.postgres.burials import PostgresLetterRegister
from unlost.listener.store.postgres.connections import Connection
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.letter_rows import state_of
from unlost.listener.store.postgres.letters import LetterTable

LEASE_SECONDS = 30.0
BYTES_AT_ONCE = 4 * 1024 * 1024
"""The bytes of letters taken at once; a larger letter is taken alone."""
WAITING = ("failed", "behind")
DIED_SECONDS = 600.0
"""The pause of a letter whose listener ended during the retry: the letter may be the reason."""


class PostgresHealing:
    """``HealingLetters`` in the tables ``letters`` and ``letter_groups``."""

    def __init__(
        self, database: Database, *, token: str, instance: str, handler: str | None, attempts: int,
        codec: EventCodec | None = None,
    ) -> None:  # fmt: skip
        """``handler``: only its letters are taken. ``attempts``: after this many a human is needed.

        ``codec``: decodes letters. One that it cannot decode waits for a human.
        """
        self._database = database
        self._table = LetterTable(database, token=token)
        self._register = PostgresLetterRegister(database, token=token)
        self._sql = database.statements("unlost.listener.store.postgres", "healing.sql")
        self._token = token
        self._instance = instance
        self._handler = handler
        self._attempts = attempts
        self._codec = codec
        self._taken: dict[str, Resolved] = {}
        """The part of a taken letter that is kept to record its end: small, also for a large letter."""

    async def groups(self, most: int) -> list[HealingGroup]:
        """See ``HealingLetters``."""
        async with self._database.acquire("choosing letters to heal") as connection:
            await connection.execute(self._sql["wake"])
            rows = await connection.fetch(self._sql["groups"], self._token, LEASE_SECONDS, self._handler, most)
        return [HealingGroup(*row) for row in rows]

    async def take(self, group: HealingGroup, most: int) -> list[HealingLetter]:
        """See ``HealingLetters``."""
        while True:
            async with self._database.acquire("taking letters to heal") as connection, connection.transaction():
                rows = await self._take(connection, group, most)
                read = [(letter, row) for row in rows if (letter := self._readable(row["line"], row["edited"]))]
                known = {letter.letter_id for letter, _ in read}
                if unreadable := [row["letter_id"] for row in rows if row["letter_id"] not in known]:
                    await connection.execute(self._sql["unreadable"], unreadable)
                    await connection.execute(self._table.sql["free"], unreadable, self._token)
            if read or not unreadable:
                break
        self._taken |= {letter.letter_id: resolved_of(letter) for letter, _ in read}
        oldest_first = sorted(read, key=lambda one: one[0].last_at)
        return [self._healing(letter, row) for letter, row in oldest_first]

    async def _take(self, connection: Connection, group: HealingGroup, most: int) -> list[asyncpg.Record]:
        """Lease the next letters, and count them as tried."""
        free = await connection.fetch(
            self._sql["next"], self._token, group.fingerprint, group.handler, most, BYTES_AT_ONCE
        )
        leased = await connection.fetch(
            self._table.sql["lease"], [row["letter_id"] for row in free], self._token,
            f"listener {self._instance}, which heals it", LEASE_SECONDS,
        )  # fmt: skip
        return await connection.fetch(
            self._sql["try"], [row["letter_id"] for row in leased], DIED_SECONDS, self._attempts
        )

    async def refuted(self, letter_ids: Sequence[str]) -> list[str]:
        """See ``HealingLetters``."""
        settled = [self._taken.pop(letter_id) for letter_id in letter_ids]
        return [one.burial.letter_id for one in await self._register.gone(settled)]

    async def untried(self, letter_ids: Sequence[str]) -> None:
        """See ``HealingLetters``."""
        for letter_id in letter_ids:
            self._taken.pop(letter_id, None)
        async with self._database.acquire("giving letters back") as connection, connection.transaction():
            await connection.execute(self._sql["untried"], letter_ids)
            await connection.execute(self._table.sql["free"], letter_ids, self._token)

    async def ended(self, group: HealingGroup, tried: Sequence[Tried], *, probe_failed: bool) -> list[str]:
        """See ``HealingLetters``."""
        for one in tried:
            self._taken.pop(one.letter_id, None)
        async with self._database.acquire("recording how letters heal") as connection, connection.transaction():
            await self._record(connection, tried)
            failed = [one for one in tried if one.what == "failed"]
            if failed:
                await connection.execute(
                    self._sql["failed"], [one.letter_id for one in failed], [one.delay for one in failed], probe_failed
                )
            if behind := [one.letter_id for one in tried if one.what == "behind"]:
                await connection.execute(self._sql["behind"], behind)
            if probe_failed:
                await connection.execute(self._sql["probe_failed"], group.fingerprint, group.handler)
                await connection.execute(self._sql["give_up"], group.fingerprint, group.handler, self._attempts)
            await connection.execute(self._table.sql["free"], [one.letter_id for one in tried], self._token)
        return [one.letter_id for one in tried if one.what not in WAITING]

    async def _record(self, connection: Connection, tried: Sequence[Tried]) -> None:
        rows = await connection.fetch(self._table.select("lock"), [one.letter_id for one in tried])
        states, now = {row["letter_id"]: state_of(row) for row in rows}, time.time()
        records = [
            Record(
                one.letter_id,
                "retried" if one.what == "failed" else "resolved",
                later_than(states[one.letter_id], now),
                one.why if self._codec is None or one.what != "failed" else WITHHELD,
                one.error_type,
                f"listener {self._instance}",
            )
            for one in tried
            if one.letter_id in states and one.what != "behind"
        ]
        await self._table.apply(connection, records, shared=False)

    async def renew(self, groups: Sequence[HealingGroup], letter_ids: Sequence[str]) -> None:
        """See ``HealingLetters``."""
        async with self._database.acquire("keeping letters that heal") as connection:
            await connection.execute(
                self._sql["renew"], self._token, LEASE_SECONDS, [one.fingerprint for one in groups],
                [one.handler for one in groups], letter_ids,
            )  # fmt: skip

    async def leave(self, group: HealingGroup, failures: int, delay: float) -> None:
        """See ``HealingLetters``."""
        async with self._database.acquire("leaving letters that heal") as connection:
            await connection.execute(self._sql["leave"], self._token, group.fingerprint, group.handler, failures, delay)

    def _readable(self, line: bytes, edited: bytes | None) -> Letter | None:
        """Return a letter; None if it is damaged, from a newer version, or encoded. Such a one waits for a human."""
        try:
            letter = decode(line)
            if self._codec is None:
                return letter if letter.coded is None else None
            if edited is not None:
                self._codec.decode_frame(edited)
            return decoded(letter, self._codec)
        except (Damaged, Unreadable):
            return None

    def _healing(self, letter: Letter, row: asyncpg.Record) -> HealingLetter:
        """Return a letter to be tried: its newest version."""
        key = letter.order_key
        if row["edited"] is None:
            frame, claimed = frame_of(letter), is_claimed(letter)
            return HealingLetter(letter.letter_id, frame, row["tries"], claimed, order_key=key)
        frame = row["edited"] if self._codec is None else self._codec.decode_frame(row["edited"])
        edited = edited_as(letter, row["version"])
        return HealingLetter(letter.letter_id, frame, row["tries"], claimed=True, edited=edited, order_key=key)
