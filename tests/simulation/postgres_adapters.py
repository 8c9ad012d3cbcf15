"""The ports of PostgreSQL for one process start, on a simulated server: claims, membership, rows and cursors."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from tests.simulation.postgres import OtherPlace, PostgresMemory, Row, Seen, Transaction, same_content
from tests.simulation.wire import BLOCKED, Blocked, Lost, ServerLink
from unlost.listener.core.claim import Answer, ClaimRequest, Dead, Done, HeldClaim, Verdict
from unlost.listener.core.effects import NewEffect
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import Event
from unlost.listener.core.store_mark import StoreMark
from unlost.listener.ports.dead_letters import Burial, Resolved, Standing, StoreLoss
from unlost.listener.ports.membership import MembershipView
from unlost.listener.ports.rows import BEHIND, INSERTED, NewRow, Result, TransactionPipeline
from unlost.listener.ports.rows import BLOCKED as REFUSED

T = TypeVar("T")


class Session:
    """The parts that a process's adapters share: the wire, and the claims table that was seen last."""

    def __init__(
        self, memory: PostgresMemory, wire: ServerLink, *, timeout: float, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.memory = memory
        self.wire = wire
        self.timeout = timeout
        self.changed = changed
        self.claims_place: str | None = None

    async def ask(self, what: str, apply: Callable[[], T | Blocked]) -> T:
        try:
            return await self.wire.ask(what, apply, timeout=self.timeout)
        except (Lost, OtherPlace) as error:
            raise Transient(f"{what}: {error}") from error


class SimulatedPostgresClaims:
    """``Claims`` in the table ``claims``."""

    def __init__(self, session: Session, *, token: str, lease_seconds: float, window_seconds: float = 600) -> None:
        self._session = session
        self._token = token
        self._lease = lease_seconds
        self._window = window_seconds

    async def place(self) -> str:
        place = await self._session.ask("pg place", self._session.memory.incarnation)
        self._session.claims_place = place
        return place

    async def claim(self, requests: Sequence[ClaimRequest], *, take_over: int, revive: bool = False) -> list[Answer]:
        if not requests:
            return []
        place, memory = await self._believed(), self._session.memory
        return await self._session.ask(
            f"pg claim{' over' if take_over else ''} {[a.event_id for a in requests]}",
            lambda: memory.claim(place, self._token, self._lease, requests, over=take_over, revive=revive),
        )

    async def replicate(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        return await self._extend("pg replicate", held_claims, replicate=True)

    async def renew(self, held_claims: Sequence[HeldClaim]) -> list[bool]:
        return await self._extend("pg renew", held_claims, replicate=False)

    async def settle(self, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict) -> list[bool]:
        if not requests:
            return []
        place, memory = await self._believed(), self._session.memory
        return await self._session.ask(
            f"pg {verdict} {[a.event_id for a in requests]}",
            lambda: memory.settle(place, self._token, requests, verdict),
        )

    async def release(self, event_ids: Sequence[str]) -> None:
        if event_ids:
            memory = self._session.memory
            await self._session.ask(f"pg release {event_ids}", lambda: memory.release(self._token, event_ids))

    async def prune(self, *, batch: int = 5_000) -> int:
        return await self._session.ask("pg prune", lambda: self._session.memory.prune(self._window, batch))

    async def close(self) -> None:
        pass

    async def _extend(self, what: str, held_claims: Sequence[HeldClaim], *, replicate: bool) -> list[bool]:
        if not held_claims:
            return []
        place, memory = await self._believed(), self._session.memory
        return await self._session.ask(
            f"{what} {[k.event_id for k in held_claims]}",
            lambda: memory.extend(place, self._token, self._lease, held_claims, replicate=replicate),
        )

    async def _believed(self) -> str:
        return self._session.claims_place or await self.place()


class SimulatedMembership:
    """The membership."""

    def __init__(
        self,
        session: Session,
        *,
        token: str,
        life_seconds: float,
        handler: str | None = None,
        changes_handler: bool = False,
    ) -> None:
        self.life_seconds = life_seconds
        self.handler = handler
        self.routes: tuple[str, ...] = ()
        self._changes_handler = changes_handler
        self._session = session
        self._token = token

    async def refresh(self, known: StoreMark | None = None) -> MembershipView:
        memory = self._session.memory
        view = await self._session.ask(
            "membership", lambda: self._seen(memory, memory.refresh(self._token, self.life_seconds, known))
        )
        self._session.claims_place = view.postgres_place
        return view

    async def renew(self, generation: str, version: int, *, unconfirmed: bool = False) -> None:
        memory = self._session.memory
        await self._session.ask(
            f"renew {generation}", lambda: memory.renew(generation, version, unconfirmed=unconfirmed)
        )

    async def declare(self, places: frozenset[str]) -> MembershipView:
        memory = self._session.memory

        def apply() -> MembershipView:
            seen = memory.declare(self._token, places, self.life_seconds, self.handler, changes=self._changes_handler)
            return self._seen(memory, seen)

        view = await self._session.ask(f"declare {sorted(places)}", apply)
        self._session.claims_place = view.postgres_place
        return view

    async def leave(self) -> None:
        await self._session.ask("leave", lambda: self._session.memory.listeners.pop(self._token, None))

    def _seen(self, memory: PostgresMemory, seen: Seen) -> MembershipView:
        places, store = dict(seen[0]), seen[1]
        place = store.incarnation
        mine = places.pop(self._token, None)
        agreed = mine is not None and memory.handlers[self._token][1]
        members = memory.members(self._token, self.life_seconds)
        return MembershipView(self._token, mine, places, place, store, agreed, members)


class SimulatedCursors:
    """The group's cursor."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def database(self) -> str:
        return "5151a7ed"

    async def start(self, source: str, group: str, cursor: str) -> str:
        memory = self._session.memory
        return await self._session.ask(f"cursor start {cursor}", lambda: memory.start_cursor(source, group, cursor))

    async def read(self, source: str, group: str) -> str | None:
        return await self._session.ask("cursor read", lambda: self._session.memory.cursors.get((source, group)))

    async def read_all(self, sources: Sequence[str], group: str) -> Mapping[str, str]:
        memory = self._session.memory
        return await self._session.ask("cursors read", lambda: memory.cursors_of(sources, group))

    async def advance(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        memory = self._session.memory
        what = f"cursor -> {cursor}"
        return await self._session.ask(what, lambda: memory.advance_cursor(source, group, cursor, store))

    async def reset(self, source: str, group: str, old: str, new: str) -> str:
        memory = self._session.memory
        return await self._session.ask(
            f"cursor {old} reset to {new}", lambda: memory.reset_cursor(source, group, old, new)
        )


class SimulatedConnection:
    """The connection that a handler in a transaction receives."""

    def __init__(self, store: "SimulatedStore", transaction: Transaction) -> None:
        self._store = store
        self._transaction = transaction

    async def execute(self, effect: str, *, timeout: float | None = None) -> None:
        """Write an effect in the transaction."""
        memory = self._store.session.memory
        await self._store.session.ask(f"effect {effect}", lambda: memory.add_effect(self._transaction, effect))

    async def record(self, event_id: str, effects: Sequence[NewEffect]) -> None:
        """Write what the handler recorded, in the transaction."""
        memory = self._store.session.memory
        apply = functools.partial(memory.record, self._transaction, event_id, effects)
        await self._store.session.ask(f"record effects of {event_id}", apply)


class Begun:
    """A connection whose next transaction has begun."""

    def __init__(self, store: "SimulatedStore", transaction: Transaction) -> None:
        self._store = store
        self.transaction = transaction

    async def give_back(self) -> None:
        """Return it unused."""
        with contextlib.suppress(Transient):
            await self._store.roll_back(self.transaction)


class SimulatedRegister:
    """The table ``buried``."""

    def __init__(self, session: Session, *, token: str) -> None:
        self._session = session
        self._token = token

    async def enter(self, burials: Sequence[Burial]) -> list[Standing]:
        memory = self._session.memory
        what = f"enter {[one.letter_id for one in burials]}"
        return await self._session.ask(what, lambda: memory.enter(self._token, burials))

    async def loss(self, after: str) -> StoreLoss | None:
        return await self._session.ask("loss?", lambda: self._session.memory.loss(after))

    async def gone(self, letters: Sequence[Resolved]) -> list[Resolved]:
        what = f"gone? {[one.event_id for one in letters]}"
        return await self._session.ask(what, lambda: self._session.memory.gone(letters))


class SimulatedStore:
    """The table ``events``."""

    def __init__(self, session: Session, *, token: str, longest_idle: float = 31.0) -> None:
        self._longest_idle = longest_idle
        self.session = session
        self._token = token

    async def insert(self, rows: Sequence[NewRow]) -> list[Result]:
        if not rows:
            return []
        memory = self.session.memory
        answer = await self.session.ask(
            f"insert {[row.event.event_id for row in rows]}", lambda: memory.insert_in_order(self._token, rows)
        )
        assert isinstance(answer, tuple)
        tried, inserted = answer
        if len(inserted) == len(rows):
            return [INSERTED] * len(rows)
        announced = dict(zip(map(id, tried), await self._distinguished(tried, inserted), strict=True))
        return [announced.get(id(row), BEHIND) for row in rows]

    async def _distinguished(self, rows: Sequence[NewRow], inserted: set[str]) -> list[Result]:
        unclear: list[NewRow] = []
        for row in rows:
            if row.event.event_id in inserted:
                inserted.discard(row.event.event_id)
            else:
                unclear.append(row)
        compared = await self.session.ask("compare", lambda: self.session.memory.compare(self._token, unclear))
        found: dict[int, Result | None] = {id(row): result for row, result in zip(unclear, compared, strict=True)}
        missing = [row for row in unclear if found[id(row)] is None]
        buried = await self.settled([ClaimRequest(row.event.event_id, row.event.digest) for row in missing])
        for row in missing:
            answer = buried.get(row.event.event_id)
            found[id(row)] = answer if isinstance(answer, Dead) else None
            if row.order_key is not None and (answer is None or row.revives):
                found[id(row)] = REFUSED
        results = [found.get(id(row), INSERTED) for row in rows]
        if None in results:
            raise Transient("a row vanished between being met and being read; try again")
        return [result for result in results if result is not None]

    async def any_stops(self, *, unsaid: bool) -> bool:
        memory = self.session.memory
        return bool(await self.session.ask("does any letter stop?", lambda: memory.any_stops(unsaid=unsaid)))

    async def insert_with(
        self, row: NewRow, work: Callable[[Any], Awaitable[None]], transactions: TransactionPipeline | None = None
    ) -> Result:
        session, memory = self.session, self.session.memory
        kept, transaction = transactions.kept if transactions else None, self.new_transaction()
        try:
            if transactions is not None and isinstance(kept, Begun):
                transactions.kept, transaction = None, kept.transaction
            else:
                await session.ask("begin", lambda: memory.begin(transaction))
            what = f"insert in transaction {row.event.event_id}"
            inserted = await session.ask(what, lambda: memory.insert(self._token, [row], transaction))
            if not inserted:
                await self._end(transaction, "rollback", memory.rollback)
                return (await self._distinguished([row], set()))[0]
            try:
                await work(SimulatedConnection(self, transaction))
            except Exception:
                await self._end(transaction, "rollback", memory.rollback)
                raise
            following = self.new_transaction() if transactions is not None and transactions.more() else None
            await self._end(transaction, f"commit {row.event.event_id}", memory.commit, following)
            if transactions is not None and following is not None:
                transactions.kept = Begun(self, following)
        except BaseException:
            self._hang_up(transaction)
            raise
        return INSERTED

    def new_transaction(self) -> Transaction:
        return Transaction(self._token, self._longest_idle)

    async def roll_back(self, transaction: Transaction) -> None:
        try:
            await self._end(transaction, "rollback", self.session.memory.rollback)
        except BaseException:
            self._hang_up(transaction)
            raise

    async def _end(
        self,
        transaction: Transaction,
        what: str,
        end: Callable[[Transaction], None],
        following: Transaction | None = None,
    ) -> None:
        def apply() -> None:
            end(transaction)
            if following is not None:
                self.session.memory.begin(following)
            self.session.changed()

        await self.session.ask(what, apply)

    def _hang_up(self, transaction: Transaction) -> None:
        """The connection is cut. Uncommitted work is gone once the server learns of it."""

        def rolled_back() -> None:
            self.session.memory.rollback(transaction)
            transaction.ended = True
            self.session.changed()

        self.session.wire.hang_up(rolled_back)

    async def probe(self) -> None:
        memory = self.session.memory
        await self.session.ask("probe", memory.probe)

    async def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead]:
        if not requests:
            return {}
        what = f"settled? {[a.event_id for a in requests]}"
        return await self.session.ask(what, lambda: self.session.memory.settled(requests))

    async def blocked(self, keys: Mapping[str, str]) -> set[str]:
        return await self.session.ask(f"blocked? {sorted(keys)}", lambda: self.session.memory.blocked(keys))

    async def same_content(self, event: Event) -> bool | None:
        def apply() -> bool | Blocked | None:
            if self.session.memory.locked:
                return BLOCKED
            row = self.session.memory.rows.get(event.event_id)
            return None if row is None else same_content(row.row.event, event)

        return await self.session.ask(f"same content? {event.event_id}", apply)

    async def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        rows = sorted(self.session.memory.rows.values(), key=lambda row: -row.seq)
        return [_shown(row) for row in rows if before is None or row.seq < before][:limit]

    async def one(self, event_id: str) -> dict[str, Any] | None:
        row = self.session.memory.rows.get(event_id)
        return None if row is None else _shown(row)


def _shown(row: Row) -> dict[str, Any]:
    return {"event_id": row.row.event.event_id, "seq": row.seq}


async def nothing() -> None:
    """Migrating and closing do nothing here."""
    await asyncio.sleep(0)
