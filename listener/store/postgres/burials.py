"""The register of burials: which events are dead letters, kept in PostgreSQL beside the rows.

A letter is a line in the file of the instance that wrote it. All others see it in this table, even if Redis has
forgotten it. Only a replay inserts an event that is registered here. The register holds one letter for each event, the
first that was entered. A later letter, by a listener that could not know, gets the answer that another letter exists.
"""

from collections.abc import Sequence

from unlost.listener.ports.dead_letters import Burial, Resolved, Standing, StoreLoss
from unlost.listener.store.postgres.database import Database


class PostgresLetterRegister:
    """``LetterRegister`` in the table ``buried``."""

    def __init__(self, database: Database, *, token: str) -> None:
        self._database = database
        self._token = token
        self._sql = database.statements("unlost.listener.store.postgres", "burials.sql")

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        """See ``LetterRegister``."""
        async with self._database.acquire("registering dead letters") as connection:
            rows = await connection.fetch(
                self._sql["enter"], self._token,
                [one.claim_id for one in burials], [one.digest for one in burials],
                [one.letter_id for one in burials], [one.claimed for one in burials],
                [one.order_key for one in burials], [one.stops for one in burials],
            )  # fmt: skip
        found = {event_id: (what, digest, letter_id) for event_id, what, digest, letter_id in rows}
        return [standing(one, *found.get(one.claim_id, ("open", None, None))) for one in burials]

    async def loss(self, after: str) -> StoreLoss | None:
        """See ``LetterRegister``."""
        async with self._database.acquire("asking what PostgreSQL may have lost") as connection:
            row = await connection.fetchrow(self._sql["lost_since"], after)
        return None if row is None or row["since"] is None else StoreLoss(row["id"], row["since"])

    async def gone(self, letters: Sequence[Resolved]) -> list[Resolved]:
        """See ``LetterRegister``."""
        async with self._database.acquire("looking for the rows of resolved letters") as connection:
            rows = await connection.fetch(
                self._sql["gone"],
                [one.event_id for one in letters], [one.burial.claim_id for one in letters],
                [one.burial.digest for one in letters], [one.burial.letter_id for one in letters],
            )  # fmt: skip
        gone = {row["letter_id"] for row in rows}
        return [one for one in letters if one.burial.letter_id in gone]


def standing(burial: Burial, what: Standing, digest: bytes | None, letter_id: str | None) -> Standing:
    """Return what a register row means for a letter. Another event's row with other content does not concern it."""
    same_event = what == "buried" and digest == burial.digest
    return "elsewhere" if same_event and letter_id != burial.letter_id else what
