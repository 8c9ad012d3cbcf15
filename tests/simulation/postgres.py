"""A simulated PostgreSQL: its memory, and the rules of the SQL files, repeated in Python.

``events``, ``buried``, ``listeners`` and ``cursors`` survive a crash; ``claims`` and its incarnation do not. Rows that
a transaction has written are locked for others until it ends. A transaction ends with its connection, as soon as the
server learns that the connection is gone.
"""

import copy
import json
import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tests.simulation.effects import EffectTable, Place, Stored
from tests.simulation.hooks import Hooks
from tests.simulation.wire import BLOCKED, Blocked, Request, Server
from tests.simulation.world import World
from unlost.listener.core.claim import (
    UNHANDLED,
    Answer,
    ClaimRequest,
    Dead,
    Done,
    Held,
    HeldClaim,
    Lapsed,
    Verdict,
    Won,
)
from unlost.listener.core.cursor import ordinal_of, parse_cursor, stem_of
from unlost.listener.core.effects import NewEffect
from unlost.listener.core.errors import Transient
from unlost.listener.core.event import Event
from unlost.listener.core.store_mark import UNCONFIRMED, StoreMark
from unlost.listener.ports.dead_letters import Burial, Resolved, Standing, StoreLoss
from unlost.listener.ports.membership import Member
from unlost.listener.ports.rows import INSERTED, OTHER_ROW, SAME_ROW, NewRow, Result
from unlost.listener.store.postgres.burials import standing

LOCKS_ASKED_EVERY = 0.5
Seen = tuple[dict[str, frozenset[str]], StoreMark]
"""The live members with their places, and the mark of this store."""


class Row(msgspec.Struct, frozen=True):
    """A row of ``events``."""

    token: str
    row: NewRow
    seq: int


class Buried:
    """A row of ``buried``."""

    __slots__ = ("at", "digest", "letter_id", "order_key", "place", "stops")

    def __init__(
        self,
        digest: bytes,
        letter_id: str | None,
        at: float,
        order_key: str | None = None,
        stops: bool | None = None,
        place: int = 0,
    ) -> None:
        self.order_key = order_key
        self.stops = stops
        self.place = place
        self.digest = digest
        self.letter_id = letter_id
        self.at = at


class Record(msgspec.Struct):
    """A row of ``claims``: leased or released."""

    state: str
    digest: bytes
    until: float
    span: float
    token: str
    epoch: int
    takeovers: int
    alone: int
    company: int


class Transaction:
    """Rows and handler effects that are not committed yet."""

    def __init__(self, token: str, longest_idle: float) -> None:
        self.token = token
        self.longest_idle = longest_idle
        self.idle_since: float | None = None
        self.rows: dict[str, Row] = {}
        self.effects: list[str] = []
        self.recorded: dict[Place, Stored] = {}
        self.ended = False


class Backup(msgspec.Struct, frozen=True):
    """A copy of the database."""

    rows: dict[str, Row]
    effects: list[str]
    buried: dict[str, Buried]
    cursors: dict[tuple[str, str], str]
    listeners: dict[str, tuple[frozenset[str], float]]
    generation: str
    version: int
    grown_at: float
    losses: list[StoreLoss]
    recorded: dict[Place, Stored]


class OtherPlace(Exception):
    """The claims table is not the one that the caller expects."""


class PostgresMemory:
    """The memory of one PostgreSQL."""

    def __init__(self, clock: Callable[[], float], hooks: Hooks) -> None:
        self.clock = clock
        self.hooks = hooks
        self.rows: dict[str, Row] = {}
        self.effects: list[str] = []
        self.recorded = EffectTable(clock, hooks)
        self.transactions: list[Transaction] = []
        self.buried: dict[str, Buried] = {}
        self.claims: dict[str, Record] = {}
        self.incarnations = 0
        self.founded: tuple[str, float] | None = None
        self.crashed_at = -math.inf
        self.listeners: dict[str, tuple[frozenset[str], float]] = {}
        self.declared_anew: dict[str, float] = {}
        """When a listener appeared in ``listeners`` that was not, or no longer, in it."""
        self.handlers: dict[str, tuple[str | None, bool]] = {}
        """The name of each listener's handler, and whether the listener agreed with the others."""
        self.cursors: dict[tuple[str, str], str] = {}
        self.locked = False
        """Whether another session holds a lock on the table ``events``, so that nobody can write or read it."""
        self.generation, self.version = "g1", 0
        self.grown_at = -math.inf
        self.losses: list[StoreLoss] = []
        self._generations = 1
        self._lost = 0
        self._seq = 0
        self._places = 0

    def crash(self) -> None:
        """After recovery: committed rows exist, unlogged tables are empty, and there are no locks."""
        self.locked = False
        self.crashed_at = self.clock()
        self.end_transactions()
        self.claims.clear()
        self.founded = None

    def back_up(self) -> Backup:
        """The content of a backup that is taken now."""
        return Backup(
            dict(self.rows), list(self.effects), copy.deepcopy(self.buried), dict(self.cursors),
            dict(self.listeners), self.generation, self.version, self.grown_at, list(self.losses),
            self.recorded.copied(),
        )  # fmt: skip

    def restore(self, backup: Backup, *, claims_too: bool) -> None:
        """Go back. ``claims_too``: the claims table keeps its name, as after a dump that includes unlogged tables."""
        lost = [event_id for event_id in self.rows if event_id not in backup.rows]
        self.hooks.went_back(lost, self.name())
        self.end_transactions()
        self.claims.clear()
        self.rows, self.effects = dict(backup.rows), list(backup.effects)
        self.buried, self.cursors = copy.deepcopy(backup.buried), dict(backup.cursors)
        self.listeners, self.generation, self.version = dict(backup.listeners), backup.generation, backup.version
        self.grown_at, self.losses = backup.grown_at, list(backup.losses)
        self.recorded.rows = copy.deepcopy(backup.recorded)
        if not claims_too:
            self.founded = None

    def name(self) -> str:
        return StoreMark(self.generation, self.version, self.incarnation()).name

    def end_transactions(self) -> None:
        for transaction in self.transactions:
            transaction.ended = True
        self.transactions.clear()

    def incarnation(self) -> str:
        if self.founded is None:
            self.incarnations += 1
            self.founded = (f"i{self.incarnations}", self.clock())
            if self.version:
                self._lose()
        return f"postgres:{self.founded[0]}"

    def _lose(self) -> None:
        self._lost += 1
        self.losses.append(StoreLoss(f"loss {self._lost}", self.grown_at))

    def loss(self, after: str) -> StoreLoss | None:
        ids = [one.loss_id for one in self.losses]
        new = self.losses[ids.index(after) + 1 if after in ids else 0 :]
        return StoreLoss(ids[-1], min(one.since for one in new)) if new else None

    def gone(self, letters: Sequence[Resolved]) -> list[Resolved] | Blocked:
        return BLOCKED if self.locked else [one for one in letters if self._is_gone(one)]

    def _is_gone(self, one: Resolved) -> bool:
        buried = self.buried.get(one.burial.claim_id)
        elsewhere = buried is not None and buried.letter_id is not None and buried.digest == one.burial.digest
        return one.event_id not in self.rows and not (elsewhere and buried.letter_id != one.burial.letter_id)

    def check(self, place: str) -> None:
        if self.founded is None or place != f"postgres:{self.founded[0]}":
            raise OtherPlace("PostgreSQL has lost its claims; ask which place this is")

    # -- events ---------------------------------------------------------------------------------

    def end_idle_transactions(self) -> None:
        for one in list(self.transactions):
            if one.idle_since is not None and one.idle_since + one.longest_idle <= self.clock():
                self.rollback(one)

    def insert(self, token: str, rows: Sequence[NewRow], transaction: Transaction | None = None) -> set[str] | Blocked:
        self.end_idle_transactions()
        if self.locked:
            return BLOCKED
        if transaction is not None and transaction.ended:
            raise Transient("no such transaction")
        ids = {row.event.event_id for row in rows}
        for other in self.transactions:
            if other is not transaction and not ids.isdisjoint(other.rows):
                return BLOCKED
        if transaction is not None:
            transaction.idle_since = self.clock()
        inserted = set()
        target = self.rows if transaction is None else transaction.rows
        for row in rows:
            event_id = row.event.event_id
            may = (event_id not in self.buried or row.revives) and not self.is_blocked(event_id, row.order_key)
            if event_id not in self.rows and event_id not in target and may:
                self._seq += 1
                target[event_id] = Row(token, row, self._seq)
                inserted.add(event_id)
                if transaction is None:
                    self.open(event_id)
                    self.hooks.row_written(token, event_id)
        return inserted

    def insert_in_order(self, token: str, rows: Sequence[NewRow]) -> tuple[list[NewRow], set[str]] | Blocked:
        """Try the rows of each key up to the first that is not inserted; return those, and which are stored."""
        tried, stopped = list[NewRow](), set[str]()
        for row in rows:
            key = None if row.revives else row.order_key
            if key not in stopped:
                tried.append(row)
                if key is not None and not self.may_insert(row):
                    stopped.add(key)
        inserted = self.insert(token, tried)
        return (tried, inserted) if isinstance(inserted, set) else inserted

    def may_insert(self, row: NewRow) -> bool:
        """Whether this is no row yet, and neither buried nor blocked."""
        one = row.event.event_id
        return one not in self.rows and one not in self.buried and not self.is_blocked(one, row.order_key)

    def is_blocked(self, event_id: str, key: str | None) -> bool:
        """Whether an earlier letter blocks the key of this event."""
        own = self.buried.get(event_id)
        place = own.place if own is not None and own.order_key == key else math.inf
        return key is not None and any(
            one.order_key == key and one.place < place and name != event_id for name, one in self.buried.items()
        )

    def open(self, event_id: str) -> None:
        """The event of a letter is a row, so it blocks its key no more."""
        if (own := self.buried.get(event_id)) is not None:
            own.order_key = None

    def blocked(self, keys: Mapping[str, str]) -> set[str] | Blocked:
        return BLOCKED if self.locked else {one for one, key in keys.items() if self.is_blocked(one, key)}

    def any_stops(self, *, unsaid: bool) -> bool | Blocked:
        if self.locked:
            return BLOCKED
        keyed = [one.stops for one in self.buried.values() if one.order_key is not None]
        return any(unsaid if stops is None else stops for stops in keyed)

    def firsts(self) -> set[str]:
        """The letters that are the first of their keys."""
        keyed = [one for one in self.buried.values() if one.order_key is not None]
        first = {one.order_key: one for one in sorted(keyed, key=lambda one: -one.place)}
        return {one.letter_id for one in first.values() if one.letter_id}

    def by_letter(self) -> dict[str, str]:
        """The claims of buried events, by letter."""
        return {one.letter_id: name for name, one in self.buried.items() if one.letter_id}

    def probe(self) -> Blocked | None:
        return BLOCKED if self.locked else None

    def begin(self, transaction: Transaction) -> None:
        if not transaction.ended:
            self.transactions.append(transaction)

    def add_effect(self, transaction: Transaction, effect: str) -> None:
        self.end_idle_transactions()
        if transaction.ended:
            raise Transient("no such transaction")
        transaction.effects.append(effect)
        transaction.idle_since = self.clock()

    def record(self, transaction: Transaction, event_id: str, effects: Sequence[NewEffect]) -> None:
        self.end_idle_transactions()
        if transaction.ended:
            raise Transient("no such transaction")
        self.recorded.record(transaction, event_id, effects)
        transaction.idle_since = self.clock()

    def commit(self, transaction: Transaction) -> None:
        self.end_idle_transactions()
        if transaction.ended:
            raise Transient("no such transaction")
        self.rollback(transaction)
        for event_id, row in transaction.rows.items():
            self.rows[event_id] = row
            self.open(event_id)
            self.hooks.row_written(transaction.token, event_id)
        for place, recorded in transaction.recorded.items():
            self.recorded.rows.setdefault(place, recorded)
        for event_id in transaction.effects:
            self.effects.append(event_id)
            self.hooks.effect_committed(event_id)

    def rollback(self, transaction: Transaction) -> None:
        transaction.ended = True
        if transaction in self.transactions:
            self.transactions.remove(transaction)

    def compare(self, token: str, rows: Sequence[NewRow]) -> list[Result | None] | Blocked:
        return BLOCKED if self.locked else [self._compare(token, row) for row in rows]

    def _compare(self, token: str, row: NewRow) -> Result | None:
        there = self.rows.get(row.event.event_id)
        if there is None:
            return None
        mine = there.token == token and (there.row.epoch, there.row.received_at, there.row.event.digest) == (
            row.epoch, row.received_at, row.event.digest
        )  # fmt: skip
        return INSERTED if mine else SAME_ROW if same_content(there.row.event, row.event) else OTHER_ROW

    def settled(self, requests: Sequence[ClaimRequest]) -> dict[str, Done | Dead] | Blocked:
        if self.locked:
            return BLOCKED
        return {
            request.event_id: answer for request in requests if (answer := self._done(request) or self._dead(request))
        }

    def enter(self, token: str, burials: Sequence[Burial]) -> list[Standing] | Blocked:
        if self.locked:
            return BLOCKED
        return [self._enter(token, burial) for burial in burials]

    def _enter(self, token: str, burial: Burial) -> Standing:
        row = self.rows.get(burial.claim_id)
        if row is not None:
            self.open(burial.claim_id)
            return "stored" if row.row.event.digest == burial.digest else "taken"
        if not burial.claimed or self._foreign(token, burial.claim_id):
            return "open"
        self._places += 1
        new = Buried(burial.digest, burial.letter_id, self.clock(), burial.order_key, burial.stops, self._places)
        buried = self.buried.setdefault(burial.claim_id, new)
        buried.letter_id = buried.letter_id or burial.letter_id
        self.hooks.registered(burial.claim_id, buried.letter_id)
        return standing(burial, "buried", buried.digest, buried.letter_id)

    # -- claims ---------------------------------------------------------------------------------

    def claim(
        self, place: str, token: str, lease: float, requests: Sequence[ClaimRequest], *, over: int, revive: bool
    ) -> list | Blocked:
        if self.locked:
            return BLOCKED
        answers: list[Answer | None] = [
            self._done(request) or (None if revive else self._dead(request)) for request in requests
        ]
        if not all(answers):
            self.check(place)
        return [
            answer or self._claim(token, lease, request, over=over)
            for request, answer in zip(requests, answers, strict=True)
        ]

    def _done(self, request: ClaimRequest) -> Done | None:
        row = self.rows.get(request.event_id)
        return None if row is None else Done(row.row.event.digest == request.digest)

    def _dead(self, request: ClaimRequest) -> Dead | None:
        buried = self.buried.get(request.event_id)
        return None if buried is None else Dead(buried.digest == request.digest)

    def _claim(self, token: str, lease: float, request: ClaimRequest, *, over: int) -> Answer:
        record, now = self.claims.get(request.event_id), self.clock()
        if record is None:
            return self._win(token, lease, HeldClaim(request.event_id, request.digest), over)
        mine = record.state == "leased" and record.token == token
        same = record.digest == request.digest
        if record.state == "leased" and not mine and record.until > now:
            record.until = min(record.until, now + record.span)
            return Held(record.until - now, same)
        if not self._may_win(record, over, mine=mine):
            return Lapsed(same, record.company)
        lost = record.state == "leased" and not mine
        alone = record.alone + (lost and record.company == 1)
        had = HeldClaim(request.event_id, request.digest, record.epoch + (not mine), record.takeovers + lost, alone)
        return self._win(token, lease, had, over)

    def _may_win(self, record: Record, over: int, *, mine: bool) -> bool:
        """Whether it may be won: together with others if fresh, or released as fresh; a suspect only by an owner that
        takes over few enough."""
        if mine or (record.state == "released" and not record.takeovers):
            return over != 0 or not record.takeovers
        if over == UNHANDLED:
            return True
        return over > 0 and (not record.company or over <= max(1, record.company // 2))

    def _win(self, token: str, lease: float, had: HeldClaim, over: int) -> Won:
        self._write(token, lease, msgspec.structs.replace(had, company=max(0, over)))
        self.hooks.granted(self.incarnation(), token, had.event_id, won=True)
        return Won(had.epoch, had.takeovers, had.alone)

    def _write(self, token: str, lease: float, held: HeldClaim) -> None:
        self.claims[held.event_id] = Record(
            "leased", held.digest, self.clock() + lease, lease, token, held.epoch, held.takeovers, held.alone,
            held.company,
        )  # fmt: skip

    def extend(
        self, place: str, token: str, lease: float, held_claims: Sequence[HeldClaim], *, replicate: bool
    ) -> list[bool] | Blocked:
        if self.locked and replicate:
            return BLOCKED
        self.check(place)
        return [self._extend(place, token, lease, held, replicate=replicate) for held in held_claims]

    def _extend(self, place: str, token: str, lease: float, held: HeldClaim, *, replicate: bool) -> bool:
        record, now = self.claims.get(held.event_id), self.clock()
        mine = record is not None and record.state == "leased" and record.token == token
        if (replicate and held.event_id in self.rows) or (held.event_id in self.buried and not mine):
            return False
        if record is not None:
            free = record.state == "released" or (record.state == "leased" and record.until <= now)
            if not mine and not (replicate and free):
                return False
            held = msgspec.structs.replace(
                held,
                epoch=max(record.epoch, held.epoch),
                takeovers=max(record.takeovers, held.takeovers),
                alone=max(record.alone, held.alone),
            )
        self._write(token, lease, held)
        self.hooks.granted(place, token, held.event_id, won=False)
        return True

    def settle(
        self, place: str, token: str, requests: Sequence[ClaimRequest | HeldClaim], verdict: Verdict
    ) -> list[bool] | Blocked:
        if self.locked:
            return BLOCKED
        if verdict == "done":
            return [self._settle_done(place, token, request.event_id) for request in requests]
        self.check(place)
        return [self._settle_dead(place, token, request) for request in requests]

    def _foreign(self, token: str, event_id: str) -> bool:
        record = self.claims.get(event_id)
        return record is not None and record.state == "leased" and record.token != token and record.until > self.clock()

    def _settle_done(self, place: str, token: str, event_id: str) -> bool:
        if self._foreign(token, event_id):
            return False
        self.claims.pop(event_id, None)
        self.hooks.announced(place, token, event_id, "done")
        return True

    def _settle_dead(self, place: str, token: str, request: ClaimRequest | HeldClaim) -> bool:
        if request.event_id in self.rows or self._foreign(token, request.event_id):
            return False
        buried = self.buried.setdefault(request.event_id, Buried(request.digest, None, self.clock()))
        buried.at = self.clock()
        self.claims.pop(request.event_id, None)
        self.hooks.announced(place, token, request.event_id, "dead")
        return True

    def release(self, token: str, event_ids: Sequence[str]) -> None:
        for event_id in event_ids:
            record = self.claims.get(event_id)
            if record is not None and record.token == token and record.state == "leased":
                record.state, record.until = "released", self.clock()

    def prune(self, window: float, batch: int) -> int:
        now = self.clock()
        kept = {key for key, one in self.claims.items() if now - window <= one.until <= now + one.span + window}
        old = [key for key in self.claims if key not in kept][:batch]
        for key in old:
            del self.claims[key]
        passed = [key for key, one in self.buried.items() if one.at < self.clock() - window and one.order_key is None][
            :batch
        ]
        for key in passed:
            del self.buried[key]
        return max(len(old), len(passed))

    # -- members and cursors --------------------------------------------------------------------

    def refresh(self, token: str, life: float, known: StoreMark | None) -> Seen:
        place, live = self.incarnation(), self.live(life)
        if token in live:
            self.listeners[token] = (live[token], self.clock())
        if known is not None and known.generation == self.generation and known.version <= self.version:
            self.version, self.grown_at = self.version + 1, self.clock()
        return live, StoreMark(self.generation, self.version, place)

    def renew(self, generation: str, version: int, *, unconfirmed: bool = False) -> None:
        if generation == self.generation:
            self.version = max(self.version, version) + 1
            self._generations += 1
            self.generation = f"{UNCONFIRMED if unconfirmed else ''}g{self._generations}"
            self._lose()

    def declare(
        self, token: str, places: frozenset[str], life: float, handler: str | None = None, *, changes: bool = False
    ) -> Seen:
        place, live = self.incarnation(), self.live(life)
        if token not in live:
            self.declared_anew[token] = self.clock()
        at_work = {self.handlers[one][0] for one in live if one != token and self.handlers[one][1]}
        held_claims = token in live and self.handlers[token][1]
        self.handlers[token] = (handler, held_claims or changes or at_work <= {handler})
        self.listeners[token] = (places, self.clock())
        return self.live(life), StoreMark(self.generation, self.version, place)

    def members(self, token: str, life: float) -> tuple[Member, ...]:
        """The other listeners."""
        return tuple(Member(one, one.partition(":")[0], *self.handlers[one]) for one in self.live(life) if one != token)

    def live(self, life: float) -> dict[str, frozenset[str]]:
        """The live members, and their places."""
        since = self.founded[1] if self.founded else 0.0
        now = self.clock()
        return {token: places for token, (places, seen) in self.listeners.items() if max(seen, since) + life > now}

    def start_cursor(self, source: str, group: str, cursor: str) -> str:
        return self.cursors.setdefault((source, group), cursor)

    def cursors_of(self, sources: Sequence[str], group: str) -> dict[str, str]:
        return {one: self.cursors[one, group] for one in sources if (one, group) in self.cursors}

    def advance_cursor(self, source: str, group: str, cursor: str, store: StoreMark | None = None) -> str | None:
        if store is not None and not (
            (store.generation, store.incarnation) == (self.generation, self.incarnation())
            and store.version <= self.version
        ):
            return None
        old = self.cursors.get((source, group))
        if old is None or moves_on(old, cursor):
            self.cursors[source, group] = cursor
            self._moved(source, old, cursor)
        return self.cursors[source, group]

    def _moved(self, source: str, old: str | None, cursor: str) -> None:
        if source.startswith("kafka:"):
            self.hooks.position_moved(cursor)
        elif "#" in source:
            self.hooks.partition_moved(source, cursor)
        else:
            self.hooks.cursor_moved(old, cursor)

    def reset_cursor(self, source: str, group: str, old: str, new: str) -> str:
        if self.cursors.get((source, group)) == old:
            self.cursors[source, group] = new
            self._moved(source, old, new)
        return self.cursors.get((source, group), new)


def moves_on(old: str, new: str) -> bool:
    """The condition of the statement ``advance``."""
    before, after = ordinal_of(old), ordinal_of(new)
    if before is None or after is None:
        return True
    if stem_of(old) == stem_of(new):
        return after > before
    return parse_cursor(old) is None or parse_cursor(new) is None


def same_content(one: Event, other: Event) -> bool:
    if one.digest == other.digest:
        return True
    return (one.type, _value(one.payload), _value(one.other)) == (
        other.type,
        _value(other.payload),
        _value(other.other),
    )


def _value(data: bytes | None) -> object:
    return None if data is None else json.loads(data)


class SimulatedPostgres(Server):
    """A PostgreSQL in the world."""

    def __init__(self, world: World, hooks: Hooks) -> None:
        super().__init__(world, "postgres", latency=0.002)
        self.memory = PostgresMemory(lambda: world.now, hooks)
        self._asks_again = False

    def work(self, request: Request) -> None:
        super().work(request)
        if self._blocked and not self._asks_again:
            self._asks_again = True
            self.world.later(LOCKS_ASKED_EVERY, self._ask_again)

    def _ask_again(self) -> None:
        self._asks_again = False
        self.unblock()

    def lock(self) -> None:
        """Another session locks the table of events. The members and the cursors stay free."""
        self.memory.locked = True
        self.troubles.begin(self.world.now)

    def unlock(self) -> None:
        """The lock is gone."""
        self.memory.locked = False
        self.touch()
        self.unblock()

    def crash(self) -> None:
        """Killed with -9. ``up`` starts it again."""
        self.down()
        self.memory.crash()
