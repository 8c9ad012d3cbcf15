"""Claims kept in PostgreSQL's table ``claims``: the same answers as from Redis, at a lower rate.

The table is unlogged: cheap, and empty after a crash of the server, which makes it another place. Every statement names
the incarnation that this process saw last. It finds nothing in any other incarnation.

"Done" and "dead" are not kept here. A row in ``events`` means done, a row in ``buried`` means dead. Both tables survive
a crash, and each statement reads both. Statements lock rows in the order of their ids, so that two listeners never
deadlock.
"""

from collections.abc import Callable, Sequence

import asyncpg

from unlost.listener.core.claim import Answer, ClaimRequest, Dead, Done, Held, HeldClaim, Lapsed, Verdict, Won
from unlost.listener.core.errors import Transient
from unlost.listener.store.postgres.database import Database
from unlost.listener.store.postgres.incarnation import incarnation

ROUNDS = 5
"""How often a batch is repeated if rows appear or vanish meanwhile."""

_READ: dict[str, Callable[[asyncpg.Record], Answer]] = {
    "won": lambda row: Won(row["epoch"], row["takeovers"], row["alone"]),
    "done": lambda row: Done(row["same"]),
    "dead": lambda row: Dead(row["same"]),
    "leased": lambda row: _leased(row),
    "free": lambda row: Lapsed(row["same"], row["company"]),
}


class PostgresClaims:
    """``Claims`` in PostgreSQL."""

    def __init__(self, database: Database, *, token: str, lease_seconds: float, window_seconds: float) -> None:
        self._database = database
        self._token = token
        self._lease = lease_seconds
        self._window = window_seconds
        self._sql = database.statements("unlost.listener.claims.postgres", "claims.sql")
        self._membership_sql = database.statements("unlost.listener.store.postgres", "membership.sql")

    async def place(self) -> str:
        """See ``Claims``. Once this returns, the calls below are for this place."""
        async with self._database.acquire("asking which claims table this is") as connection:
            place = await incarnation(connection, self._membership_sql)
        self._database.claims_place = place
        return place

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        """See ``Claims``."""
        place = await self._believed()
        answers: dict[str, Answer] = {}
        unanswered = requests
        for _ in range(ROUNDS):
            if not unanswered:
                return [answers[request.event_id] for request in requests]
            rows = await self._fetch(
                "claim", "claiming events",
                [request.event_id for request in unanswered], [request.digest for request in unanswered],
                self._lease, place, take_over, revive,
            )  # fmt: skip
            answers.update((row["event_id"], _READ[row["answer"]](row)) for row in rows)
            # A lease that has more time left than it was granted: the server's clock went back.
            if late := [row["event_id"] for row in rows if row["seconds_left"] > row["span"]]:
                await self._fetch("shorten", "shortening leases of a clock that went back", late)
            unanswered = [request for request in requests if request.event_id not in answers]
            if unanswered:
                await self._check(place)
        raise Transient("claiming events: rows came and went faster than they could be read; ask again")

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """See ``Claims``."""
        return await self._extended(held_claims, True, "replicating claims")

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        """See ``Claims``."""
        return await self._extended(held_claims, False, "renewing claims")

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        """See ``Claims``."""
        event_ids = [request.event_id for request in requests]
        if verdict == "done":
            held = {row[0] for row in await self._fetch("settle_done", "settling events", event_ids)}
            return [event_id not in held for event_id in event_ids]
        place = await self._believed()
        rows = await self._fetch(
            "settle_dead", "settling events", event_ids, [request.digest for request in requests], place
        )
        return await self._found(event_ids, rows, place)

    async def release(self, event_ids: Sequence[str]) -> None:
        """See ``Claims``."""
        await self._fetch("release", "releasing claims", event_ids)

    async def prune(self, *, batch: int = 5_000) -> int:
        """See ``StandingClaims``."""
        async with self._database.acquire("forgetting old claims") as connection:
            most: int = await connection.fetchval(self._sql["prune"], self._window, batch)
        return most

    async def close(self) -> None:
        """See ``Claims``. The pool belongs to the code that made it."""

    async def _extended(self, held_claims: Sequence[HeldClaim], also_free: bool, doing: str) -> list[bool]:
        place = await self._believed()
        event_ids = [held.event_id for held in held_claims]
        rows = await self._fetch(
            "extend", doing, event_ids,
            [held.digest for held in held_claims], [held.epoch for held in held_claims],
            [held.takeovers for held in held_claims], [held.alone for held in held_claims],
            [held.company for held in held_claims], self._lease, place, also_free,
        )  # fmt: skip
        return await self._found(event_ids, rows, place)

    async def _found(self, event_ids: Sequence[str], rows: Sequence[asyncpg.Record], place: str) -> list[bool]:
        found = {row[0] for row in rows}
        if len(found) < len(event_ids):
            await self._check(place)
        return [event_id in found for event_id in event_ids]

    async def _believed(self) -> str:
        """Return the incarnation that this process believes in, in the form that the statements take."""
        return (self._database.claims_place or await self.place()).removeprefix("postgres:")

    async def _check(self, place: str) -> None:
        """Raise ``Transient`` if the claims table is another one by now: rows may be missing because of that."""
        async with self._database.acquire("asking which claims table this is") as connection:
            now = await incarnation(connection, self._membership_sql)
        if now != f"postgres:{place}":
            raise Transient("PostgreSQL has lost its claims (it crashed or failed over); ask which place this is")

    async def _fetch(self, name: str, doing: str, *arguments: object) -> list[asyncpg.Record]:
        if not arguments[0]:
            return []
        async with self._database.acquire(doing) as connection:
            return await connection.fetch(self._sql[name], self._token, *arguments)


def _leased(row: asyncpg.Record) -> Answer:
    seconds_left, same = row["seconds_left"], row["same"]
    return Held(min(seconds_left, row["span"]), same) if seconds_left > 0 else Lapsed(same, row["company"])
