"""The judge: observes the servers and the listeners, and reports at which step a rule was broken.

The law      every accepted event ends as one row or one letter; a handler's effect is committed as often as its row
Letters      at most one for an event, and none beside its row, except as `letters.py` allows; at the end, no exception
Crash loops  only events that kill their owners are condemned, not those held beside them, unless faults ended enough
             owners
Order        "done" is announced only of an existing row, "dead" only of a letter on disk; the cursor never passes an
             unsettled event, goes back only from what the journal has lost, and reaches the journal's end
Positions    that of a topic's partition passes nothing unsettled, in PostgreSQL or Kafka, and all reach the end
Gaps         a listener that has read what the journal lost, or lacks what the journal removed, reports a gap before it
             reads on; what a restore removed ends, too, if a listener received it that lives on, or that knew of the
             gap when it was stopped
Handlers     when a handler starts, no other live listener is at work with a different handler
Owners       when a handler starts, no other live listener may start it too, and no earlier owner has run it, unless
             that owner was killed, frozen, stopped, displaced, or cut off from both places of claims at once, or lost
             its lease to such an owner, or after a crash of PostgreSQL; or, cut off from PostgreSQL while another
             listener was cut off from Redis, had lost its membership row, or its lease in the one place that both still
             had. An event whose run failed while its route paused at the owner may go to any other. The owner itself
             may run it again only if its own run had failed; in a transaction, also if that was not committed
Healing      a stop gives back the letters that it has taken to heal and has not tried to the end
Effects      none is delivered before its row is committed, or by two at the same moment, or marked before the receiver
             has accepted it; at the end, the receiver has accepted one for each row
Outages      no event is buried as exhausted unless it fails for a reason of its own
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from tests.simulation.histories import Histories
from tests.simulation.hooks import Hooks
from tests.simulation.letters import OPEN, Letters
from tests.simulation.ordered import KeyLaw
from tests.simulation.postgres import PostgresMemory
from tests.simulation.world import World
from unlost.listener.core.cause import UNCLAIMED
from unlost.listener.core.effects import Effect, key_of
from unlost.listener.core.facts import (
    EventsStored,
    Fact,
    LeasesLost,
    PlacesDeclared,
    RoutePaused,
    RouteResumed,
    SourceGap,
    StoreUnconfirmed,
    StoreWentBack,
)
from unlost.listener.pipeline.peers.segments import Segment
from unlost.listener.ports.dead_letters import Burial
from unlost.listener.source.stream.partitions import COUNT, partition_of

if TYPE_CHECKING:
    from tests.simulation.listener import Start
    from tests.simulation.topic import SimulatedTopic


MAX_TAKEOVERS = 3


class Run:
    """One owner's runs of the handler for one event."""

    __slots__ = ("attempt", "degraded", "ended", "epoch", "failed", "process", "started")

    def __init__(self, process: Start, epoch: int, attempt: int, started: float) -> None:
        self.attempt = attempt
        self.process = process
        self.degraded = process.engine.manager.degraded
        self.epoch = epoch
        self.started = started
        self.ended: float | None = None
        self.failed = False


class Law(Hooks):
    """Checks the rules above, at each step and at the end."""

    def __init__(
        self, world: World, *, lease: float, roll_life: float, poison: Collection[str] = (), losses: int = 0
    ) -> None:
        self.world = world
        self.lease = lease
        self.roll_life = roll_life
        self.poison = poison
        self.losses = losses
        """How many owners other faults may end."""
        self.postgres: PostgresMemory
        self.topic: SimulatedTopic | None = None
        self.processes: list[Start] = []
        self.by_token: dict[str, Start] = {}
        self.may_exhaust: Callable[[Start, str], bool] = lambda *_: True
        """Whether this event may use up its attempts for a reason of its own."""
        self.in_transactions = False
        self.order: KeyLaw | None = None
        """The order of each key, if the run has keys."""
        self.with_effects = False
        self._sent: Counter[str] = Counter()
        self._accepted: set[str] = set()
        self._calls: dict[str, list[tuple[Start, float]]] = {}
        """The calls of effects that have arrived at the receiver and are not answered, by key."""
        self._letters = Letters()
        self.letters: dict[tuple[str, bytes], int] = {}
        """How many letters wait, by claim and content."""
        self.letters_by_id: dict[str, Burial] = {}
        self.lettered: set[str] = set()
        self.journal: list[tuple[str, bytes, str]] = []
        self.frames: list[bytes] = []
        self.runs: dict[str, list[Run]] = {}
        self._contested: set[str] = set()
        self._lost: set[tuple[Start, str]] = set()
        self._paused_until: dict[Start, float] = {}
        """When the last pause of the route ended at each process; infinite while it goes on."""
        self.written: dict[str, int] = {}
        self.arrived: dict[int, list[Start]] = {}
        """The processes that received each entry, by serial number."""
        self.histories = Histories()
        self._gaps: dict[Start, tuple[object, ...]] = {}
        self._gaps_reported: set[tuple[object, ...]] = set()
        self._for_good: set[tuple[Start, int]] = set()
        """Entries that a process had received when it met a gap. The source does not have them any more."""
        self._doubted: set[str] = set()
        """The names that the store had when it went back. Announcements under these names may be about lost rows."""
        self._gone: set[str] = set()
        """Events whose rows were lost at least once."""
        self._acknowledged: set[int] = set()
        """Messages that a broker need not give again."""
        self._noticed: set[Start] = set()
        """The starts that have noticed the last time that the store went back."""
        self._went_back = False
        """Claims and membership rows were lost then, too. For the life of a row two listeners may run the same
        event."""

    def starts(self, process: Start) -> None:
        self.processes.append(process)
        self.by_token[process.token] = process

    # -- what happens ---------------------------------------------------------------------------

    def accepted(self, event_id: str, digest: bytes, claim_id: str, frame: bytes) -> None:
        self.journal.append((event_id, digest, claim_id))
        self.frames.append(frame)
        self.histories.accepts(len(self.journal), tells_cursor=bool(event_id))

    def timeline_begins(self, stem: str) -> None:
        self.histories.begins(stem)

    def journal_retired(self) -> None:
        self.histories.loses_old()

    def journal_restored(self, newest: int, removed: int) -> None:
        lost = self.histories.present[newest:]
        self.world.note("law", f"the journal goes back to {newest} and loses {[self.journal[n - 1][2] for n in lost]}")
        self.histories.goes_back(newest, removed)

    def went_back(self, lost: Sequence[str], name: str) -> None:
        self.world.note("law", f"the store {name} goes back and loses {list(lost)}")
        self._doubted.add(name)
        self._letters.went_back(self.world.now)
        self._gone.update(lost)
        self._noticed.clear()
        self._went_back = True
        for event_id in lost:
            self.written.pop(event_id, None)
            self.runs.pop(event_id, None)
            self._contested.add(event_id)

    def reads_after(self, process: Any, cursor: str) -> None:
        histories = self.histories
        gap = process, cursor, histories.removed, len(histories.all)
        if histories.misses(cursor) and gap not in self._gaps_reported:
            self._gaps[process] = gap

    def frame_arrived(self, process: Any, serial: int) -> None:
        self.arrived.setdefault(serial, []).append(process)

    def acknowledged(self, process: Any, serial: int) -> None:
        """Check that the message is settled. A store that went back unnoticed may have lost it meanwhile."""
        event_id = self.journal[serial - 1][0]
        self.world.note(process.name, f"acknowledges {event_id} (#{serial})")
        if self.is_settled(serial) or (event_id in self._gone and not self._knows_of_loss(process)):
            self._acknowledged.add(serial)
        else:
            self.world.break_law(f"{process.name} acknowledged {event_id} (#{serial}), which is not settled")

    def _knows_of_loss(self, process: Start) -> bool:
        return process in self._noticed

    def frame_read(self, process: Any, serial: int) -> None:
        if process in self._gaps:
            self.world.break_law(f"{process.name} reads on after a gap that it did not report, at {serial}")
        if self.order is not None:
            self.order.read(process)

    def row_written(self, token: str, event_id: str) -> None:
        self.world.note("law", f"row {event_id} by {token}")
        self.written[event_id] = self.written.get(event_id, 0) + 1
        if self.written[event_id] > 1:
            self.world.break_law(f"{event_id} was written {self.written[event_id]} times")
        digest = self.postgres.rows[event_id].row.event.digest
        process = self.by_token[token]
        if self.order is not None:
            self.order.in_order(event_id, "a row is written of")
        if self.postgres.rows[event_id].row.revives:
            return  # a letter is healed
        for letter in self._letters.of(event_id, digest):
            if not self._letters.may_be_beside(letter, process, event_id):
                self.world.break_law(f"{token} stores {event_id} beside a letter of {letter.process.token}, unexcused")

    def effect_committed(self, event_id: str) -> None:
        if self.postgres.effects.count(event_id) > 1:
            self.world.break_law(f"the handler's effect for {event_id} was committed twice")

    def effect_sent(self, key: str) -> int:
        self._sent[key] += 1
        return self._sent[key]

    def effect_arrives(self, process: Start, effect: Effect) -> float:
        event_id, now = effect.event_id, self.world.now
        if event_id not in self.postgres.rows and event_id not in self._gone:
            self.world.break_law(f"{process.name} delivers an effect of {event_id}, which is no row")
        calls = self._calls.setdefault(effect.key, [])
        for other, began in calls:
            if other.alive and not other.frozen_since(began) and not self._went_back:
                self.world.break_law(f"{process.name} and {other.name} deliver an effect of {event_id} at once")
        calls.append((process, now))
        return now

    def effect_ends(self, key: str, began: float) -> None:
        self._calls[key] = [one for one in self._calls[key] if one[1] != began]

    def effect_accepted(self, key: str) -> None:
        self._accepted.add(key)

    def effect_marked(self, key: str) -> None:
        if key not in self._accepted:
            self.world.break_law(f"the effect {key} is marked as delivered, and nobody has accepted it")

    def buried(self, process: Start, burial: Burial, event_id: str, reason: str) -> None:
        claim_id, digest = burial.claim_id, burial.digest
        self.world.note(process.name, f"LETTER {claim_id} {reason}")
        self.letters_by_id[burial.letter_id] = burial
        self.letters[claim_id, digest] = self.letters.get((claim_id, digest), 0) + 1
        self.lettered.add(claim_id)
        if self.order is not None:
            self.order.buried(event_id, reason)
        if reason in UNCLAIMED:
            return
        if reason in ("exhausted", "deferred") and not self.may_exhaust(process, event_id):
            self.world.break_law(f"{process.name} buries {event_id}, which does not fail for a reason of its own")
        if reason == "crash_loop" and event_id not in self.poison and self.losses < MAX_TAKEOVERS:
            self.world.break_law(f"{event_id} was condemned, and kills no process")
        others = self._letters.of(claim_id, digest)
        letter = self._letters.write(process, burial, self.world.now)
        for other in others:
            if not self._letters.may_follow_a_letter(letter, other, claim_id):
                self.world.break_law(f"{process.token} buries {claim_id} after {other.process.token}, unexcused")
        row = self.postgres.rows.get(claim_id)
        if row is not None and row.row.event.digest == digest and not self._letters.may_follow_a_row(letter, claim_id):
            self.world.break_law(f"{process.token} buries {claim_id}, a row of {row.token}, unexcused")

    def resolved(self, burial: Burial) -> None:
        self.letters[burial.claim_id, burial.digest] -= 1
        known = burial.claim_id in self.postgres.rows or self.letters.get(_conflict(burial.claim_id, burial.digest))
        if not self.letters[burial.claim_id, burial.digest] and not known:
            self.world.break_law(f"the last letter of {burial.claim_id} was resolved, and it is no row")

    def reopened(self, burial: Burial) -> None:
        self.world.note("law", f"{burial.claim_id} waits again")
        self.letters[burial.claim_id, burial.digest] += 1

    def registered(self, claim_id: str, letter_id: str) -> None:
        self._letters.registered(claim_id, letter_id, self.world.now)

    def granted(self, place: str, token: str, claim_id: str, *, won: bool) -> None:
        self._letters.granted(place, token, claim_id, self.world.now, won=won)

    def announced(self, place: str, token: str, claim_id: str, verdict: str) -> None:
        if place.partition("@")[2] in self._doubted:
            return
        if claim_id.startswith("segment:"):
            self._announced(claim_id)
            return
        if verdict == "dead":
            self._letters.announced(place, token, claim_id)
        if verdict == "done" and claim_id not in self.postgres.rows:
            self.world.break_law(f"{claim_id} was announced as done, and is no row")
        if verdict == "dead" and claim_id not in self.lettered and claim_id not in self.postgres.rows:
            self.world.break_law(f"{claim_id} was announced as dead, and has no letter")

    def _announced(self, name: str) -> None:
        """Check that all events of an announced segment are settled.

        A segment that was read with gaps has a name that matches nothing here. No listener looks for that name either.
        """
        for history in self.histories.all:
            for first in range(len(history)):
                for last in range(first + 1, len(history) + 1):
                    segment = Segment(is_of_peer=False)
                    segment.add([self.frames[serial - 1] for serial in history[first:last]])
                    segment.end()
                    assert segment.name
                    if segment.name.event_id != name:
                        continue
                    for serial in history[first:last]:
                        if not self.is_settled(serial):
                            self.world.break_law(f"{name} was announced as settled, and event {serial} is not settled")

    def cursor_moved(self, old: str | None, cursor: str) -> None:
        histories = self.histories
        for serial in histories.up_to(cursor):
            if serial not in histories.forgiven and not self.is_settled(serial):
                self.world.break_law(f"the cursor moved to {cursor}, and event {serial} is not settled")
        if old is not None and histories.leaves(old, cursor):
            self.world.break_law(f"the cursor moved from {old}, which the journal has, to {cursor}")

    def partition_moved(self, row: str, cursor: str) -> None:
        """A partition's cursor passes nothing of that partition that is not settled."""
        for serial in self.histories.up_to(cursor):
            of_it = row.endswith(f"#{partition_of(self.frames[serial - 1])}/{COUNT}")
            if of_it and serial not in self.histories.forgiven and not self.is_settled(serial):
                self.world.break_law(f"{row} moved to {cursor}, and event {serial} is not settled")

    def position_moved(self, cursor: str) -> None:
        """The position of a topic's partition passes nothing that is not settled, whoever saves it."""
        partition, at = _place_of(cursor)
        for serial in self._before(partition, at):
            if not self.is_settled(serial):
                self.world.break_law(f"a position moved to {cursor}, and event {serial} is not settled")

    def committed(self, process: Any, partition: int, at: int) -> None:
        """The same of what is committed. A store that went back unnoticed may have lost some of it meanwhile."""
        for serial in self._before(partition, at):
            lost = self.journal[serial - 1][0] in self._gone and not self._knows_of_loss(process)
            if not lost and not self.is_settled(serial):
                self.world.break_law(f"{process.name} committed {partition}@{at}, and event {serial} is not settled")

    def _before(self, partition: int, at: int) -> list[int]:
        assert self.topic is not None
        return [serial for serial, _ in self.topic.logs[partition][:at]]

    def positions_arrived(self) -> bool:
        """Whether the position of each partition is at its end."""
        assert self.topic is not None
        stored = dict(_place_of(one) for one in self.postgres.cursors.values() if "partitions" not in one)
        return all(stored.get(number, 0) == len(log) for number, log in enumerate(self.topic.logs))

    def cursor_arrived(self, *, resumes: bool) -> bool:
        """Whether the group's cursor is at the end of the journal."""
        stored = next(iter(self.postgres.cursors.values()), None)
        return not resumes or self.histories.is_reached(stored)

    def is_settled(self, serial: int) -> bool:
        event_id, digest, claim_id = self.journal[serial - 1]
        row = self.postgres.rows.get(event_id)
        if row is not None and row.row.event.digest == digest:
            return True
        return bool(self.letters.get((claim_id, digest)) or self.letters.get(_conflict(event_id, digest)))

    def hear(self, process: Start, fact: Fact) -> None:
        match fact:
            case LeasesLost():
                self._lost.update((process, event_id) for event_id in fact.event_ids)
            case PlacesDeclared(degraded=True):
                for run in chain.from_iterable(self.runs.values()):
                    if run.process is process and (run.ended is None or run.failed):
                        run.degraded = True  # its claim has moved with all others
            case StoreWentBack() | StoreUnconfirmed():
                self._noticed.add(process)
            case SourceGap():
                self._gaps_reported.add(self._gaps.pop(process, ()))
                gone = self.histories.forgiven | self.histories.lost
                self._for_good.update((process, one) for one in gone if process in self.arrived.get(one, ()))
            case EventsStored():
                self._hear_of_rows(process, fact)
            case RoutePaused():
                self._paused_until[process] = math.inf
            case RouteResumed():
                self._paused_until[process] = self.world.now

    def _hear_of_rows(self, process: Start, fact: EventsStored) -> None:
        for event_id in fact.event_ids:
            row = self.postgres.rows.get(event_id)
            if event_id not in self._gone and (row is None or row.token != process.token):
                self.world.break_law(f"{process.name} says that it stored {event_id}, and the row is not its own")

    def stopped(self, process: Start, at_work: Collection[str]) -> None:
        """Check that a stop gave back letters that it had not tried. A frozen one may have had no time for that."""
        if at_work and not process.frozen_since(0.0):
            self.world.break_law(f"{process.name} stopped while it heals {sorted(at_work)}, and did not give them back")

    # -- handlers -------------------------------------------------------------------------------

    def handler_starts(self, process: Start, event_id: str, epoch: int, attempt: int) -> Run:
        now = self.world.now
        if self.order is not None:
            self.order.handler_starts(event_id)
        for other in self.processes:
            if self._went_back:
                break
            self._same_handler(process, other)
            if other is not process and other.alive and other.may_run(event_id):
                self.world.break_law(f"{process.name} starts {event_id}, and {other.name} may start it too")
        runs = self.runs.setdefault(event_id, [])
        for run in runs:
            if run.process is process and run.epoch == epoch and (run.failed or self.in_transactions):
                run.ended, run.attempt = None, attempt
                return run
        for run in runs:
            if self._may_follow(run, process):
                continue
            if not self._excused(run, event_id) and not self._apart(run, event_id, process):
                still = "still runs" if run.ended is None else "has run"
                self.world.break_law(f"{process.name} starts {event_id}, and {run.process.name} {still} it, unexcused")
            self._contested.add(event_id)
        run = Run(process, epoch, attempt, now)
        runs.append(run)
        return run

    def _same_handler(self, process: Start, other: Start) -> None:
        mine, theirs = process.settings.handler, other.settings.handler
        if mine != theirs and other.alive and other.engine.manager.open:
            self.world.break_law(f"{process.name} runs {mine}, and {other.name} is at work with {theirs}")

    def handler_ends(self, run: Run, *, failed: bool) -> None:
        run.ended, run.failed = self.world.now, failed

    def _excused(self, run: Run, event_id: str) -> bool:
        process = run.process
        if self._went_back or event_id in self.lettered or event_id in self._contested:
            return True
        if not process.alive or process.stopping or process.frozen_since(run.started):
            return True
        if process.engine.manager.agreement.displaced.is_set():  # ends in order: another handler is at work now
            return True
        if _cut_off(process, run.started) or (run.degraded and process.links[1].troubled_since(run.started)):
            return True
        if (process, event_id) not in self._lost:
            return False
        if self.postgres.crashed_at >= run.started:  # Redis is another place since then
            return True
        return any(_cut_off(other, run.started - 2 * self.lease) for other in self.processes)

    def _may_follow(self, run: Run, process: Start) -> bool:
        """Whether this process may always run the event after this run, which failed, or was not committed."""
        if run.process is process:
            return run.failed or self.in_transactions
        ended = math.inf if run.ended is None else run.ended
        return run.failed and ended <= self._paused_until.get(run.process, -math.inf)

    def _apart(self, run: Run, event_id: str, starter: Start) -> bool:
        """Whether the owner was cut off from PostgreSQL and the other from Redis, so that they shared no place."""
        owner, memory = run.process, self.postgres
        if not owner.links[1].troubled_since(run.started):
            return False
        if owner.token not in memory.live(self.roll_life) or memory.declared_anew[owner.token] > run.started:
            return starter.links[0].troubled_since(run.started)
        since = run.started - 2 * self.lease
        return (owner, event_id) in self._lost and any(one.links[0].troubled_since(since) for one in self.processes)

    # -- the end --------------------------------------------------------------------------------

    def unsettled(self, *, resumes: bool) -> list[str]:
        """Events that should be settled by now, and are not."""
        missing = []
        gone = self.histories.forgiven | self.histories.lost
        for serial, (event_id, _, _) in enumerate(self.journal, 1):
            kept = event_id not in self._gone or event_id in self.lettered
            received = self._received(serial, resumes=resumes)
            declared = serial in self._acknowledged and event_id in self._gone
            owed = (resumes and serial not in gone and not declared) or (kept and received)
            if owed and not self.is_settled(serial):
                missing.append(f"{event_id} (#{serial})")
        return missing + self._undelivered()

    def _undelivered(self) -> list[str]:
        """The effects that rows have, and the receiver does not."""
        keys = {key_of("unlost", event_id, 1): event_id for event_id in self.postgres.rows if self.with_effects}
        waiting = {one.effect.key for one in self.postgres.recorded.rows.values() if one.status == "waiting"}
        return [
            f"an effect of {event_id}" for key, event_id in keys.items() if key in waiting or key not in self._accepted
        ]

    def _received(self, serial: int, *, resumes: bool) -> bool:
        """Whether somebody owes this entry. If the source cannot send it again (it cannot resume, or retention or a
        restore removed the entry), only listeners that received it and live on owe it.

        A listener that was stopped in order owes it, too, if it knew that the source would not send it again.
        """
        return any(
            (process.alive and not process.stopping)
            or (process.state == "exited" and not process.unaccounted and self._knew(process, serial, resumes=resumes))
            for process in self.arrived.get(serial, ())
        )

    def _knew(self, process: Start, serial: int, *, resumes: bool) -> bool:
        """Whether this process knew that the source would not send this again."""
        return not resumes or (process, serial) in self._for_good

    def judge(self, *, calm: bool, stopped: Collection[str]) -> None:
        """Check what no single step shows, after the end. ``stopped``: letters of orderly stops that still wait.

        Letters of a listener whose handler differs from the one at work wait with it.
        """
        waiting = any(one.alive and not one.engine.manager.agreement.reached for one in self.processes)
        if stopped and not waiting:
            self.world.break_law(f"nobody settled the letters of orderly stops: {sorted(stopped)}")
        owed = Counter((self.letters_by_id[one].claim_id, self.letters_by_id[one].digest) for one in stopped)
        for (claim_id, digest), every in self.letters.items():
            row = self.postgres.rows.get(claim_id)
            stored = row is not None and row.row.event.digest == digest
            count = every - owed[claim_id, digest]
            if count + stored > 1:
                self.world.break_law(f"{claim_id} ended with {'a row and ' if stored else ''}{count} letters that wait")
        if calm and len({(one.claim_id, one.digest) for one in self.letters_by_id.values()}) < len(self.letters_by_id):
            self.world.break_law("there were two letters of one event, and nothing was lost on the way")


def _conflict(event_id: str, digest: bytes) -> tuple[str, bytes]:
    """The claim and the content that are buried if the event's id belongs to other content."""
    return f"conflict:{digest.hex()}:{event_id}", digest


def _place_of(cursor: str) -> tuple[int, int]:
    """The partition and the offset of a position, as ``topic/1@17``."""
    partition, _, at = cursor.partition("/")[2].partition("@")
    return int(partition), int(at)


def _cut_off(process: Start, since: float) -> bool:
    """Whether both places of its claims were in trouble for it since then, at once or shortly after each other."""
    if not all(link.troubled_since(since) for link in process.links):
        return False
    redis, postgres = (link.troubled() for link in process.links)
    return any(
        max(one, other) <= min(one_end, other_end) + OPEN and max(one_end, other_end) >= since
        for one, one_end in redis
        for other, other_end in postgres
    )
