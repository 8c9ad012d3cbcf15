"""Deliberate mistakes. Each can be built into the product's own code for the time of a run.

A simulation that does not find them would prove nothing. ``MUTATIONS`` gives each a name and says what it does.
"""

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from tests.simulation import listener as listener_module
from tests.simulation import postgres as postgres_module
from tests.simulation.effects import EffectTable
from tests.simulation.order_mutations import ORDER_MUTATIONS
from tests.simulation.partition_mutations import PARTITION_MUTATIONS
from tests.simulation.postgres import PostgresMemory, Row
from tests.simulation.redis import Record, RedisMemory, SimulatedRedisClaims
from tests.simulation.topic_mutations import TOPIC_MUTATIONS, acknowledged_at_receipt, saves_in_any_store
from unlost.listener.app.engine import Engine
from unlost.listener.app.listening import Listening
from unlost.listener.claims import known_store as known_store_module
from unlost.listener.claims import manager as manager_module
from unlost.listener.claims import quorum as places
from unlost.listener.claims.agreement import Agreement
from unlost.listener.claims.leases import Leases
from unlost.listener.claims.manager import ClaimManager
from unlost.listener.claims.quorum import intersects
from unlost.listener.claims.replicas import Replicas
from unlost.listener.core.batch_queue import BatchQueue
from unlost.listener.core.claim import Answer, ClaimRequest, Held, HeldClaim, Won
from unlost.listener.core.errors import Transient
from unlost.listener.core.facts import LeasesLost
from unlost.listener.core.in_flight import DUPLICATE, InFlight
from unlost.listener.core.store_mark import Remembered, StoreMark
from unlost.listener.core.watermark import Position, Watermark
from unlost.listener.pipeline import intake as intake_module
from unlost.listener.pipeline import settling as settling_module
from unlost.listener.pipeline.attempt_runner import AttemptRunner
from unlost.listener.pipeline.claiming import Claiming
from unlost.listener.pipeline.effect_delivery import EffectDelivery
from unlost.listener.pipeline.handling import Handling
from unlost.listener.pipeline.healer import Healer
from unlost.listener.pipeline.inlet import Inlet
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Segment
from unlost.listener.pipeline.registrar import Registrar
from unlost.listener.pipeline.retries import Retries
from unlost.listener.pipeline.route_breaker import RouteBreaker
from unlost.listener.pipeline.route_pauses import RoutePauses
from unlost.listener.pipeline.settling import Settling
from unlost.listener.pipeline.store_watch import StoreWatch
from unlost.listener.pipeline.storing import Storing
from unlost.listener.ports.dead_letters import HealingGroup, HealingLetter, Tried
from unlost.listener.ports.rows import INSERTED
from unlost.listener.source.gaps import GapRecorder
from unlost.listener.source.reader import Reader
from unlost.producer.journal.timelines import Start, Timelines

REACHED = {
    Agreement: ("_reached",),
    AttemptRunner: ("_check_held", "_manager", "_wait_until_it_may_run"),
    ClaimManager: (
        "_backends", "_clock", "_declare", "_fresh_until",
        "_lose_what_no_peer_respects", "_intersects", "_membership", "_moving", "_peers", "_replicas", "_see", "_take",
        "_turn",
    ),
    Claiming: ("_condemned", "_intake", "_policy", "_route_lost", "_to_be_looked_up"),
    EffectDelivery: ("_deliver", "_rows"),
    Healer: ("_letters", "_try"),
    Intake: ("_ours", "_settled_segments"),
    Leases: ("_claims", "_clock", "_facts", "_seconds"),
    Listening: ("_drain", "_read_again"),
    Reader: ("_facts", "_gap", "_gaps", "_go_back", "_options", "_read_once", "_take_the_rest"),
    Registrar: ("_enter", "_read", "_read_at", "_reopen"),
    Replicas: ("_all_settled",),
    Segment: ("_lengths",),
    Settling: ("_manager", "_settle_dead", "_sink", "_write"),
    Storing: ("_insert", "_settling"),
}  # fmt: skip
"""The private names of the product on which these mistakes depend. Whoever renames one finds it here. No other test may
depend on any (``tests/unit/test_private_names.py``)."""
Patch = tuple[Any, str, Callable[[Any], Any]]
"""The object, its attribute, and a function that makes the new value from the old."""


def _outside_of_the_transaction(_: Any) -> Any:
    def record(self: EffectTable, transaction: Any, event_id: str, effects: Any) -> None:
        del transaction
        self.rows |= {(event_id, n): self.new(event_id, n, one) for n, one in enumerate(effects, 1)}

    return record


def _marked_early(real: Any) -> Any:
    async def deliver(self: EffectDelivery, effect: Any) -> None:
        await self._rows.delivered(effect)
        await real(self, effect)

    return deliver


def _without_lease(real: Any) -> Any:
    return lambda self, token, most, _lease, skip, only: real(self, token, most, 0.0, skip, only)


def _forgotten(self: EffectTable, place: Any, *_: Any) -> None:
    del self.rows[place]


def _passes_no_receipts(real: Any) -> Any:
    def put_all(self: BatchQueue[Any], items: Any) -> None:
        real(self, [one for one in items if not isinstance(one, int)])  # a simulated broker's receipts are numbers

    return put_all


def _overwrite(_: Any) -> Any:
    def insert(self: PostgresMemory, token: str, rows: Any, transaction: Any = None) -> set[str]:
        target = self.rows if transaction is None else transaction.rows
        for row in rows:
            target[row.event.event_id] = Row(token, row, 0)
            if transaction is None:
                self.hooks.row_written(token, row.event.event_id)
        return {row.event.event_id for row in rows}

    return insert


def _version_unseen(real: Any) -> Any:
    def change(known: Any, seen: Any) -> Any:
        what = real(known, seen)
        return "none" if what == "back" and known.name == seen.name else what

    return change


def _remembers_nothing_else(real: Any) -> Any:
    async def remember(self: SimulatedRedisClaims, store: StoreMark) -> Remembered:
        await real(self, store)
        return Remembered(store.version, store.name)

    return remember


def _begins_anew(real: Any) -> Any:
    return lambda self, attempt, seconds: real(self, attempt._replace(number=1), seconds)


def _conflict_is_mine(real: Any) -> Any:
    return lambda self, token, row: real(self, token, row) and INSERTED


def _settle_first(real: Any) -> Any:
    async def insert(self: Storing, batch: Any) -> None:
        await self._settling._manager.leases.settle([p.claim_id for p in batch], "done")
        await real(self, batch)

    return insert


def _dead_before_letter(real: Any) -> Any:
    async def write(self: Settling, batch: Any) -> bool:
        await self._manager.leases.settle([p.claim_id for p in batch], "dead")
        return await real(self, batch)

    return write


def _drop_standby(real: Any) -> Any:
    def route_lost(self: Claiming, batch: Sequence[InFlight], answers: Sequence[Answer]) -> Any:
        return real(self, *_without_held(batch, answers, self._intake.forget))

    return route_lost


def _standby_is_settled(real: Any) -> Any:
    def route_lost(self: Claiming, batch: Sequence[InFlight], answers: Sequence[Answer]) -> Any:
        return real(self, *_without_held(batch, answers, lambda one: self._intake.finish([(one, DUPLICATE)])))

    return route_lost


def _without_held(
    batch: Sequence[InFlight], answers: Sequence[Answer], end: Callable[[InFlight], None]
) -> tuple[list[InFlight], list[Answer]]:
    left = []
    for flight, answer in zip(batch, answers, strict=True):
        if isinstance(answer, Held) and answer.seconds_left > 0:
            end(flight)
        else:
            left.append((flight, answer))
    return [flight for flight, _ in left], [answer for _, answer in left]


def _ran_out_is_replicated(real: Any) -> Any:
    async def replicate(self: Leases, place: str) -> Any:
        with mock.patch.object(self, "lose_what_ran_out"):
            return await real(self, place)

    return replicate


def _epoch_reset(real: Any) -> Any:
    def win(self: RedisMemory, token: str, lease: float, request: ClaimRequest, had: HeldClaim, take_over: int) -> Won:
        return real(self, token, lease, request, HeldClaim(request.event_id, request.digest), take_over)

    return win


def _never_renewed(_: Any) -> Any:
    async def renew(self: Leases) -> None:
        for claim in self.all():
            claim.until = dict.fromkeys(claim.until, self._clock() + self._seconds)

    return renew


def _losses_ignored(_: Any) -> Any:
    return lambda self, event_ids: self._facts(LeasesLost(event_ids)) if event_ids else None


def _no_replica(real: Any) -> Any:
    return lambda self, step: real(self, places.Step((), step.declare, step.urgent))


def _declare_first(real: Any) -> Any:
    async def take(self: ClaimManager, step: Any) -> bool:
        self._moving = self._moving or step.urgent
        async with self._turn:
            await self._declare(step.declare)
        self._moving = False
        for place in step.replicate:
            await self._replicas.hold(place)
        return True

    return take


def _declared_once_told(_: Any) -> Any:
    async def declare(self: ClaimManager, places: Any) -> None:
        self._intersects = False
        started = self._clock()
        view = await self._membership.declare(places)
        self.leases.places = places
        self._see(view, started)
        self._intersects = intersects(places, self._peers)

    return declare


def _lost_unseen(_: Any) -> Any:
    def check(self: AttemptRunner, flight: InFlight) -> None:
        if not self._manager.leases.is_held(flight.claim_id):
            raise asyncio.CancelledError

    return check


def _waits_for_the_settled(_: Any) -> Any:
    async def all_settled(*_: object) -> bool:
        return False

    return all_settled


def _waits_closed(real: Any) -> Any:
    async def take(self: ClaimManager, step: Any) -> bool:
        if await real(self, step):
            return True
        raise Transient("must wait, and the claim manager does not change")

    return take


async def _nothing(*_: object) -> None:
    """Replaces what should have been done."""


def _one_place(_: Any) -> Any:
    async def also(*_: object, **__: object) -> None:
        pass

    return also


def _stale_view(_: Any) -> Any:
    return property(lambda self: self._intersects and not self._moving and self._backends.has_all(self.leases.places))


def _agreed_for_ever(real: Any) -> Any:
    def see(self: Agreement, view: Any) -> None:
        was_reached = self.reached
        real(self, view)
        if was_reached:
            self._reached.set()

    return see


def _open_outside_the_membership(real: Any) -> Any:
    def see(self: ClaimManager, view: Any, started: float) -> None:
        real(self, view, started)
        self.agreement._reached.set()
        self._fresh_until = started + self._membership.life_seconds * manager_module.FRESH_SHARE

    return see


def _gap_is_a_wall(*_: object, **__: object) -> Any:
    raise Transient("what was asked for is gone")


def _give_up_early(real: Any) -> Any:
    def next_step(view: Any) -> Any:
        if view.redis in view.declared and view.postgres in view.declared:
            return places.Step((), view.declared - {view.postgres}, urgent=False)
        return real(view)

    return next_step


def _stays_where_it_was(real: Any) -> Any:
    async def replicate(self: Leases, place: str) -> list[ClaimRequest]:
        kept = {event_id: claim for event_id, claim in self._claims.items() if place in claim.until}
        claims, self._claims = self._claims, {k: v for k, v in self._claims.items() if k not in kept}
        try:
            return await real(self, place)
        finally:
            gone = set(claims) - set(kept) - set(self._claims)
            self._claims = {k: v for k, v in claims.items() if k not in gone}

    return replicate


def _saved_at_receipt(real: Any) -> Any:
    def open_(self: Watermark, cursor: str | None, count: int = 1, receipt: Any = None) -> Position:
        self.cursor = cursor or self.cursor
        return real(self, cursor, count, receipt)

    return open_


def _settled_in_any_order(real: Any) -> Any:
    def settle(positions: Sequence[Position]) -> None:
        for position in positions:
            position.of.cursor = position.cursor or position.of.cursor
        real(positions)

    return settle


def _from_now(real: Any) -> Any:
    async def session(self: Reader) -> bool:
        self._options = _with_now(self._options)
        return await real(self)

    return session


def _with_now(options: Any) -> Any:
    return dataclasses.replace(options, start_from="now")


def _one_token(real: Any) -> Any:
    def init(self: Engine, settings: Any, *args: Any, **more: Any) -> None:
        real(self, settings, *args, **more | {"name": lambda: "same"})

    return init


def _takes_leases(real: Any) -> Any:
    def claim(
        self: RedisMemory, token: str, lease: float, request: ClaimRequest, *, take_over: int, revive: bool
    ) -> Any:
        record = self.records.get(request.event_id)
        if record is not None and record.state == "L" and record.token != token:
            had = HeldClaim(request.event_id, request.digest, record.epoch + 1, record.takeovers)
            return self._win(token, lease, request, had, take_over)
        return real(self, token, lease, request, take_over=take_over, revive=revive)

    return claim


def _any_place(_: Any) -> Any:
    return lambda self, place: None


def _vouched_unsettled(real: Any) -> Any:
    def follow(self: Intake, segment: Segment, position: Position) -> None:
        if segment.name:
            self._settled_segments.append(segment.name)
        real(self, segment, position)

    return follow


def _vouched_half_settled(_: Any) -> Any:
    def follow(self: Intake, segment: Segment, position: Position) -> None:
        segment.unsettled = 1  # counts only the last position
        self._ours[position] = segment

    return follow


def _any_bytes(_: Any) -> Any:
    def add(self: Segment, frames: Sequence[bytes]) -> None:
        self._lengths += map(len, frames)

    return add


def _left_unread(_: Any) -> Any:
    return lambda self, parts: self.end_unread(parts)


def _finish_unburied(_: Any) -> Any:
    async def write(self: Settling, batch: Any) -> bool:
        return True

    return write


def _always_confirmed(_: Any) -> Any:
    async def confirmed(*_: object) -> bool:
        return True

    return confirmed


def _once_confirmed(_: Any) -> Any:
    async def write(self: Settling, batch: Any) -> bool:
        while batch:
            with contextlib.suppress(Transient):
                await self._sink.bury(batch)
                break
            await asyncio.sleep(settling_module.RETRY_SECONDS)
        return True

    return write


def _lost_is_forgotten(real: Any) -> Any:
    return lambda self, flight: real(self, flight) and False


def _all_counts(_: Any) -> Any:
    async def counts(*_: object) -> bool:
        return True

    return counts


def _nobody(*_: object) -> list[Any]:
    return []


async def _nothing_entered(*_: object, entered: bool) -> None:
    pass


async def _nothing_read(self: Registrar) -> None:
    self._read_at = math.inf


def _unforbidden(real: Any) -> Any:
    def insert(self: PostgresMemory, *args: Any) -> Any:
        buried, self.buried = self.buried, {}
        try:
            return real(self, *args)
        finally:
            self.buried = buried

    return insert


def _leaves_the_rest(_: Any) -> Any:
    async def bury_rest(*_: object, **__: object) -> int:
        return 0

    return bury_rest


def _first_alone(real: Any) -> Any:
    return lambda firsts: [flight for flight in real(firsts) if flight in firsts]


def _resolved_at_offer(real: Any) -> Any:
    async def tried(self: Healer, letters: Sequence[HealingLetter]) -> list[Tried]:
        await self._letters.ended(
            HealingGroup("offered"), [Tried(one.letter_id, "stored", "offered") for one in letters], probe_failed=False
        )
        return list(await real(self, letters))

    return tried


def _resolved_untried(_: Any) -> Any:
    async def untried(self: listener_module.SimulatedHealing, letter_ids: Sequence[str]) -> None:
        tried = [Tried(letter_id, "settled", "the listener stopped") for letter_id in letter_ids]
        await self.ended(HealingGroup("stopped"), tried, probe_failed=False)

    return untried


def _heals_nothing(real: Any) -> Any:
    async def run(self: Healer) -> None:
        self.stop()
        await real(self)

    return run


def _every_lost_owner(_: Any) -> Any:
    def condemned(self: Claiming, flight: InFlight) -> bool:
        return flight.takeovers >= self._policy.max_takeovers and not flight.revive

    return condemned


def _runs_for_ever(_: Any) -> Any:
    return lambda self, now: self.until > now


def _a_clock_back_ends_leases(_: Any) -> Any:
    return lambda self, now: now < self.until <= now + self.span


def _tells_the_gap_alone(_: Any) -> Any:
    async def go_back(self: Reader, unknown: str, start: str) -> None:
        self._gaps.declare(self.source.name, "unknown_cursor", after=unknown, resumed_at=start)

    return go_back


def _told_when_all_is_done(real: Any) -> Any:
    async def go_back(self: Reader, unknown: str, start: str) -> None:
        self._gap = unknown, start
        await real(self, unknown, start)
        self._gaps.declare(self.source.name, "unknown_cursor", after=unknown, resumed_at=start)

    return go_back


def _hands_all_back(real: Any) -> Any:
    async def drain(self: Listening, reader: Any) -> Any:
        for one in self.readings:
            one.reader.took_for_good = not one.source.resumes
        return await real(self, reader)

    return drain


def _number_alone(_: Any) -> Any:
    def start_after(self: Timelines, cursor: str, bounds: tuple[int, int]) -> Start:
        number = int(cursor.rpartition(".")[2])
        return Start(max(number, bounds[0]), is_known=bounds[0] <= number)

    return start_after


def _further_by_number(_: Any) -> Any:
    return lambda old, new: int(new.rpartition(".")[2]) > int(old.rpartition(".")[2])


def _reset_from_anywhere(real: Any) -> Any:
    def reset(self: PostgresMemory, source: str, group: str, old: str, new: str) -> str:
        return real(self, source, group, self.cursors[source, group], new)

    return reset


MUTATIONS: dict[str, tuple[str, list[Patch]]] = {
    "forget-the-fence": ("an insert overwrites an existing row", [(PostgresMemory, "insert", _overwrite)]),
    "foreign-row-is-mine": (
        "an existing row counts as one's own on insert",
        [(PostgresMemory, "_compare", _conflict_is_mine)],
    ),
    "done-before-row": ('"done" is announced before the row is stored', [(Storing, "_insert", _settle_first)]),
    "dead-before-letter": (
        '"dead" is announced before the letter is on disk',
        [(Settling, "_write", _dead_before_letter)],
    ),
    "no-letter": ("a condemned event ends without its letter", [(Settling, "_write", _finish_unburied)]),
    "buries-unconfirmed": (
        "a letter is written although its claim may be lost",
        [(ClaimManager, "confirmed", _always_confirmed)],
    ),
    "confirmed-once": (
        "a letter that waited for disk space is written although another owner has won the claim",
        [(Settling, "_write", _once_confirmed)],
    ),
    "unregistered": ("no letter is entered in PostgreSQL", [(Registrar, "_enter", lambda _: _nothing_entered)]),
    "unread": (
        "letters that an earlier start left unregistered are not read",
        [(Registrar, "_read", lambda _: _nothing_read)],
    ),
    "row-beside-a-burial": (
        "a row is written although its event is buried",
        [(PostgresMemory, "insert", _unforbidden)],
    ),
    "outage-counts": ("attempts count during an outage of the store", [(StoreWatch, "counts", _all_counts)]),
    "probe-without-locks": (
        "the probe does not lock the table",
        [(PostgresMemory, "probe", lambda _: lambda _: None)],
    ),
    "drop-standby": ("an event held by another owner is dropped", [(Claiming, "_route_lost", _drop_standby)]),
    "standby-is-settled": (
        "an event held by another owner counts as settled",
        [(Claiming, "_route_lost", _standby_is_settled)],
    ),
    "reset-epoch": ("a takeover starts at epoch 1 without a takeover", [(RedisMemory, "_win", _epoch_reset)]),
    "never-renew": ("leases are not renewed, but are taken for renewed", [(Leases, "renew", _never_renewed)]),
    "lease-ignored": ("an owner goes on after it lost its lease", [(Leases, "lose", _losses_ignored)]),
    "lost-unseen": (
        "a handler's task that finds its lease expired just ends",
        [(AttemptRunner, "_check_held", _lost_unseen)],
    ),
    "waits-for-the-settled": (
        "a listener that woke waits until events are settled before it replicates",
        [(Replicas, "_all_settled", _waits_for_the_settled), (ClaimManager, "_take", _waits_closed)],
    ),
    "lost-is-forgotten": (
        "the event of a lost claim does not stand by again",
        [(Handling, "lose", _lost_is_forgotten)],
    ),
    "meet-nobody": (
        "events start although peers claim elsewhere",
        [(manager_module, "intersects", lambda _: lambda *_: True)],
    ),
    "ran-out-is-replicated": (
        "a claim whose lease ran out is held again in another place",
        [(Leases, "replicate", _ran_out_is_replicated)],
    ),
    "no-replicate": ("a place is declared in which claims are not replicated", [(ClaimManager, "_take", _no_replica)]),
    "declare-before-replicate": (
        "a place is declared before claims are replicated in it",
        [(ClaimManager, "_take", _declare_first)],
    ),
    "declared-once-told": (
        "leases are not renewed in a declared place if the reply to its declaration was lost",
        [(ClaimManager, "_declare", _declared_once_told)],
    ),
    "left-behind": (
        "a listener cut off from PostgreSQL keeps claims that its crash has erased",
        [(ClaimManager, "_lose_what_no_peer_respects", lambda _: lambda _: None)],
    ),
    "give-up-early": ("PostgreSQL is given up while peers need it", [(manager_module, "next_step", _give_up_early)]),
    "stale-replicate": (
        "claims that were made in a place long ago are not replicated there again",
        [(Leases, "replicate", _stays_where_it_was)],
    ),
    "any-place": ("Redis takes claims that are meant for another", [(RedisMemory, "check", _any_place)]),
    "announced-unsettled": (
        "a segment is announced as settled as soon as it ends",
        [(Intake, "follow", _vouched_unsettled)],
    ),
    "announced-half-settled": (
        "a segment is announced as settled as soon as its last part is",
        [(Intake, "follow", _vouched_half_settled)],
    ),
    "any-bytes": ("the name of a segment does not depend on its content", [(Segment, "add", _any_bytes)]),
    "left-unread": ("events that peers did not settle end unread", [(Intake, "read", _left_unread)]),
    "no-look": (
        "a handler runs although the rows were not checked",
        [(Claiming, "_to_be_looked_up", lambda _: _nobody)],
    ),
    "no-last-look": (
        "a handler starts without asking the claim manager",
        [
            (AttemptRunner, "_wait_until_it_may_run", lambda _: _nothing),
            (AttemptRunner, "_check_held", lambda _: lambda *_: None),
        ],
    ),
    "stale-view": (
        "events start although the membership could not be refreshed",
        [(ClaimManager, "open", _stale_view)],
    ),
    "open-outside-the-membership": (
        "events start although the membership row has expired",
        [(ClaimManager, "_see", _open_outside_the_membership)],
    ),
    "any-handler": (
        "a listener works beside listeners with another handler",
        [
            (Agreement, "reached", lambda _: property(lambda _: True)),
            (Agreement, "wait", lambda _: _nothing),
        ],
    ),
    "agreed-for-ever": (
        "a listener works on after it was taken for dead and another handler took over",
        [(Agreement, "see", _agreed_for_ever)],
    ),
    "gap-untold": (
        "a gap left by retention is not reported",
        [(GapRecorder, "declare", lambda _: lambda *_, **__: None)],
    ),
    "gap-is-a-wall": (
        "a reader waits at a gap for events that never come",
        [(GapRecorder, "declare", lambda _: _gap_is_a_wall)],
    ),
    "stop-leaves-the-rest": (
        "an orderly stop writes no letters for events that nobody sends again",
        [(Settling, "bury_rest", _leaves_the_rest)],
    ),
    "stop-leaves-what-came": (
        "frames that arrived before a stop, but were not read yet, are dropped",
        [(Reader, "_take_the_rest", lambda _: lambda *_: None)],
    ),
    "stop-leaves-unread": (
        "a stop forgets events that wait unread for a peer",
        [(PeerAffinity, "unread", lambda _: property(_nobody))],
    ),
    "stop-leaves-copies": (
        "a stop accounts only for the first of several events with the same id",
        [(intake_module, "unlettered", _first_alone)],
    ),
    "stopped-forbids": (
        "the letter of a stop forbids the row that a peer stores",
        [(listener_module, "UNCLAIMED", lambda _: frozenset(("overflow",)))],
    ),
    "never-healed": ("the next start does not settle the letters of a stop", [(Healer, "run", _heals_nothing)]),
    "stop-keeps-what-heals": (
        "a stop does not give back the letters that it heals",
        [(Healer, "finish", lambda _: _nothing)],
    ),
    "stop-resolves-what-heals": (
        "a stop resolves letters whose retry it has ended",
        [(listener_module.SimulatedHealing, "untried", _resolved_untried)],
    ),
    "healed-at-offer": (
        "a letter is resolved when its event is offered again",
        [(Healer, "_try", _resolved_at_offer)],
    ),
    "one-place": ("of several places only the first is used to claim", [(Replicas, "claim", _one_place)]),
    "dead-untold": ("no place learns of a letter", [(Settling, "_settle_dead", lambda _: _nothing)]),
    "cursor-at-receipt": ("the cursor moves when an event is received", [(Watermark, "open", _saved_at_receipt)]),
    "cursor-any-order": ("the cursor moves to any settled event", [(intake_module, "settle", _settled_in_any_order)]),
    "start-from-now": ("without a cursor, reading starts at the end", [(Reader, "_read_once", _from_now)]),
    "token-per-host": ("a restarted process has its old token", [(Engine, "__init__", _one_token)]),
    "neighbours-condemned": (
        "an event is condemned for all its lost owners, whatever ran beside it",
        [(Claiming, "_condemned", _every_lost_owner)],
    ),
    "clock-back-holds": (
        "a lease granted before the clock went back never expires",
        [(Record, "runs", _runs_for_ever)],
    ),
    "clock-back-ends": (
        "a living owner loses its leases when the clock goes back",
        [(Record, "runs", _a_clock_back_ends_leases)],
    ),
    "not-set-back": (
        "the group's cursor stays where it was in a journal that is lost",
        [(Reader, "_go_back", _tells_the_gap_alone)],
    ),
    "gap-told-late": (
        "a gap is reported only after PostgreSQL answered, and is forgotten if it is another store by then",
        [(Reader, "_go_back", _told_when_all_is_done)],
    ),
    "stop-hands-back-the-lost": (
        "a stop leaves events to the source that the source has lost",
        [(Listening, "_drain", _hands_all_back)],
    ),
    "number-alone": (
        "the source continues after the number in a cursor, whatever its timeline",
        [(Timelines, "start_after", _number_alone)],
    ),
    "further-by-number": (
        "the cursor with the larger number counts as further, whatever the timelines",
        [(postgres_module, "moves_on", _further_by_number)],
    ),
    "reset-from-anywhere": (
        "a cursor is set back although a peer has advanced it since",
        [(PostgresMemory, "reset_cursor", _reset_from_anywhere)],
    ),
    "never-reopened": (
        "a letter stays resolved although PostgreSQL lost its row",
        [(Registrar, "_reopen", lambda _: _nothing)],
    ),
    "trusts-any-store": (
        "Redis' memory of a store that went back is trusted",
        [(SimulatedRedisClaims, "file_under", lambda _: lambda *_: None)],
    ),
    "saves-in-any-store": (
        "a cursor is saved in a store that went back",
        [(PostgresMemory, "advance_cursor", saves_in_any_store)],
    ),
    "not-read-again": (
        "events that the store lost are not read again",
        [(Listening, "_read_again", lambda _: lambda _: None)],
    ),
    "old-watermark": (
        "the watermark of what was read before is kept",
        [(Inlet, "read_again", lambda _: lambda _: None)],
    ),
    "version-unseen": (
        "a store with a lower version than before is taken for the same",
        [(known_store_module, "change", _version_unseen)],
    ),
    "starts-without-doubt": (
        "a starting listener takes any store for the one it knew",
        [(SimulatedRedisClaims, "remember", _remembers_nothing_else)],
    ),
    "acknowledged-at-receipt": (
        "a message is acknowledged when it is received",
        [(Inlet, "receive", acknowledged_at_receipt)],
    ),
    "acknowledges-the-lost": (
        "messages are acknowledged whose rows a store that went back has lost",
        [(Watermark, "end", lambda _: lambda _: None), (BatchQueue, "clear", lambda _: lambda _: None)],
    ),
    "never-acknowledged": (
        "a receipt that a session could not pass on is dropped",
        [(BatchQueue, "put_all", _passes_no_receipts)],
    ),
    "pause-forgets": (
        "an event that pauses between two attempts is forgotten",
        [(Retries, "put", lambda _: lambda _self, _attempt, _seconds: None)],
    ),
    "pause-begins-anew": ("after a pause the attempts begin anew", [(Retries, "put", _begins_anew)]),
    "route-never-pauses": (
        "attempts are counted although all that a handler needs is away",
        [(RouteBreaker, "failed", lambda _: lambda *_args, **_named: True)],
    ),
    "parked-are-forgotten": (
        "events that wait unclaimed for a route are forgotten",
        [(RoutePauses, "unpark", lambda _: lambda _self, queue, _count: queue.parked.clear())],
    ),
    "effect-before-commit": (
        "effects are written outside of the transaction of their row",
        [(EffectTable, "record", _outside_of_the_transaction)],
    ),
    "effect-marked-early": (
        "an effect is marked as delivered before the receiver has answered",
        [(EffectDelivery, "_deliver", _marked_early)],
    ),
    "effect-without-lease": (
        "an effect is taken although another listener delivers it",
        [(EffectTable, "take", _without_lease)],
    ),
    "effect-forgotten": (
        "an effect that a receiver refused is forgotten",
        [(EffectTable, "failed", lambda _: _forgotten)],
    ),
    "takeover-without-lease": ("a valid lease is taken over", [(RedisMemory, "claim", _takes_leases)]),
}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Build a mistake in. An empty name builds none."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, change in (
            {**MUTATIONS, **ORDER_MUTATIONS, **PARTITION_MUTATIONS, **TOPIC_MUTATIONS}[name][1] if name else ()
        ):
            real = getattr(owner, attribute)
            setattr(owner, attribute, change(real))
            stack.callback(setattr, owner, attribute, real)
        yield
