"""The intake: limits the events in a listener's memory, by count and bytes. Each event enters and leaves here, once.

An event that is in memory already is not claimed a second time: its copy follows the first and ends with it. The event
of a letter ends with it only if the first became a row. Otherwise the first may count as settled by this letter. A copy
with other content will be a conflict, whose letter blocks its key, so it keeps its place among the events of that key.
So does one that was read again, which may be processed again. A frame that is not a valid event enters too, marked
for burial, under a name made from its bytes.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient, failure_of
from unlost.listener.core.event import Edited, Event
from unlost.listener.core.facts import EventsDuplicate, EventsOfOtherShards, Facts, FramesReceived, FramesUnread
from unlost.listener.core.in_flight import DUPLICATE, Buried, End, InFlight, Stored, unlettered
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.watermark import Position, settle, settle_whole
from unlost.listener.pipeline.frames import flight_of, flight_of_oversized, read_frames
from unlost.listener.pipeline.key_order import KeyOrder
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Segment, SegmentPiece
from unlost.listener.pipeline.policy import Policy

TurnCame = Callable[[Sequence[InFlight]], None]
ENTRY_BYTES = 600
"""Approximate memory of one event beside its own bytes."""


class Intake:
    """Admits events and releases them."""

    def __init__(
        self,
        *,
        policy: Policy,
        affinity: PeerAffinity,
        clocks: Clocks,
        facts: Facts,
        turn_came: TurnCame | None = None,
    ) -> None:
        """Make one. ``turn_came`` is called with events that waited for their keys; by default they are claimed now."""
        self._turn_came = turn_came or affinity.put_first
        self._policy = policy
        self._affinity = affinity
        self._clocks = clocks
        self._facts = facts
        self.order = KeyOrder()
        self._inside: dict[str, InFlight] = {}
        self._beyond: set[InFlight] = set()
        self._ours: dict[Position, Segment] = {}
        self._settled_segments: list[ClaimRequest] = []
        self._count = 0
        self._bytes = 0
        self._received = 0
        self._received_bytes = 0
        self._room = asyncio.Event()
        self._emptied = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether no further event may be read."""
        return self._count >= self._policy.max_events or self._bytes >= self._policy.max_bytes

    @property
    def room(self) -> tuple[int, int]:
        """How many further events and bytes may be read. There is no room if either is not positive."""
        return self._policy.max_events - self._count, self._policy.max_bytes - self._bytes

    @property
    def count(self) -> int:
        """How many events are in memory."""
        return self._count

    @property
    def size(self) -> int:
        """The number of bytes that they are counted as."""
        return self._bytes

    def find(self, event_id: str) -> InFlight | None:
        """Return the event with this id, if it is in memory."""
        return self._inside.get(event_id)

    def is_alone(self, flight: InFlight) -> bool:
        """Whether nothing in memory waits for this event to end, neither a copy nor another event of its key."""
        first_of_key = flight.order_key is not None and not flight.revive
        return self._inside.get(flight.claim_id) is flight and not flight.copies and not first_of_key

    def inside(self) -> list[InFlight]:
        """Return everything in memory now, without copies."""
        return list(self._inside.values())

    def holds_only(self, claim_ids: Collection[str]) -> bool:
        """Whether nothing is in memory but these events, their copies, and what waits behind others of its key."""
        inside = self._inside.values()
        count = sum([1 + len(one.copies or ()) for one in inside])
        return count == self._count and all(one.waits_for_key or one.claim_id in claim_ids for one in inside)

    async def wait_for_room(self, *, spare: int = 0) -> None:
        """Return once a further event may be read. ``spare``: how many events are allowed above the usual limit."""
        while self._count >= self._policy.max_events + spare or (not spare and self.full):
            self._room.clear()
            await self._room.wait()

    async def wait_until_empty(self) -> None:
        """Return once nothing is in memory."""
        while self._count:
            self._emptied.clear()
            await self._emptied.wait()

    def count_received(self, bodies: Sequence[bytes], oversized: int = 0) -> None:
        """Count messages of a source that enter now, or one oversized message of this length."""
        if oversized:
            self._received += 1
            self._received_bytes += oversized
            return
        size = sum(map(len, bodies))
        self._received += len(bodies)
        self._received_bytes += size
        self._count += len(bodies)
        self._bytes += size + ENTRY_BYTES * len(bodies)

    def of_this_shard(self, flights: Sequence[InFlight]) -> tuple[Sequence[InFlight], Sequence[InFlight]]:
        """Return the events that this listener's shard stores, and the others."""
        if (shard := self._policy.shard) is None:
            return flights, ()
        others = [one for one in flights if not shard.has(one.claim_id)]
        return [one for one in flights if shard.has(one.claim_id)], others

    def end_of_other_shards(self, flights: Sequence[InFlight]) -> None:
        """End events that were received and counted, and that other shards store."""
        for one in flights:
            self._leave_count(one)
        self.pass_over(flights)

    def pass_over(self, flights: Sequence[InFlight]) -> None:
        """End events that other shards store. They are not counted as events in memory."""
        if flights:
            self._settle([one.position for one in flights if one.position is not None])
            self._facts(EventsOfOtherShards(len(flights)))

    def queue(self, own: Sequence[InFlight], of_peers: Sequence[InFlight]) -> None:
        """Queue events to be claimed: own ones at once, peers' when nothing else waits."""
        if own:
            self._affinity.put_all(self._admitted(own) if self.order.used else own)
        if of_peers:
            self._affinity.put_behind(of_peers)

    def _admitted(self, flights: Sequence[InFlight]) -> list[InFlight]:
        return [flight for flight in self.order.admit(flights) if not flight.follows]

    def read_again(self) -> None:
        """Announce none of the segments that have begun: their source is read again, from a stored cursor."""
        self._ours.clear()
        self._settled_segments.clear()

    def follow(self, segment: Segment, position: Position) -> None:
        """Track whether all of an own segment is settled."""
        segment.unsettled += 1
        self._ours[position] = segment

    def settled_segments(self) -> list[ClaimRequest]:
        """Return the names of own segments that have become settled since the last call."""
        names, self._settled_segments = self._settled_segments, []
        return names

    def read(self, parts: Sequence[SegmentPiece]) -> None:
        """Read the frames that peers did not settle. From here on they are events like all others."""
        self._affinity.ended(parts)
        frames = [frame for part in parts for frame in part.frames]
        found = iter(read_frames(frames, max_bytes=self._policy.max_event_bytes))
        flights = [
            flight_of(next(found), frame, part.position, part.received_at, part.received_clock, cursor)
            for part in parts
            for frame, cursor in zip(part.frames, part.cursors, strict=True)
        ]
        mine, others = self.of_this_shard(flights)
        for flight in mine:
            flight.of_peer = True
        self._affinity.put_behind(list(filter(self.comes_first, mine)))
        self.end_of_other_shards(others)

    def end_unread(self, parts: Sequence[SegmentPiece]) -> None:
        """End the frames that peers settled as duplicates."""
        self._affinity.ended(parts)
        count = sum([len(part.frames) for part in parts])
        self._count -= count
        self._bytes -= sum([len(frame) for part in parts for frame in part.frames]) + ENTRY_BYTES * count
        settle_whole([part.position for part in parts if part.position])
        self._made_room()
        if count:
            self._facts(FramesUnread(count))

    def enter_beyond(self, flight: InFlight) -> None:
        """Admit an event for which there is no room, only to bury it."""
        self._beyond.add(flight)
        self._count += 1
        self._bytes += flight.event.size + ENTRY_BYTES
        error_now = Transient("memory was full, and the source cannot resume: PostgreSQL was away, or a route paused")
        flight.attempts.append(failure_of(error_now, stage="receive", at=flight.received_at))

    def offer(
        self,
        event: Event,
        on_end: Callable[[InFlight], None],
        edited: Edited | None = None,
        *,
        order_key: str | None = None,
    ) -> None:
        """Admit an event from a dead letter instead of the source: it is revived."""
        flight = flight_of(event, event.frame, None, self._clocks.now(), self._clocks.monotonic())
        flight.revive, flight.edited, flight.order_key = True, edited, order_key
        flight.on_end = on_end
        self.enter(flight)

    def offer_behind(
        self,
        frame: bytes | Oversized,
        on_end: Callable[[InFlight], None],
        *,
        revive: bool = False,
        edited: Edited | None = None,
        order_key: str | None = None,
    ) -> InFlight:
        """Admit an event from a letter, behind all others. The letter stays until the event ends.

        ``revive``: the event counts as dead by this letter. It gets one attempt, and no second letter.
        """
        at, clock, most = self._clocks.now(), self._clocks.monotonic(), self._policy.max_event_bytes
        if isinstance(frame, Oversized):
            flight = flight_of_oversized(frame, None, at, clock, max_bytes=most)
        else:
            flight = flight_of(read_frames((frame,), max_bytes=most)[0], frame, None, at, clock)
        flight.revive = flight.once = revive
        flight.edited, flight.order_key = edited, order_key
        flight.on_end = on_end
        self.enter(flight, behind=True)
        return flight

    def left(self) -> list[InFlight]:
        """Return every received event that has not ended, one for each content, without those that have a letter."""
        self.read(self._affinity.unread)
        return unlettered((*self._inside.values(), *self._beyond))

    def enter(self, flight: InFlight, *, behind: bool = False, again: bool = False) -> None:
        """Admit one event. ``behind``: it is claimed when nothing else waits. ``again``: it was the copy of another.

        Such an event is the next of its key, since others that have the same name may wait for it.
        """
        self._count += 1
        self._bytes += flight.event.size + ENTRY_BYTES
        takes_part = self.comes_first(flight)
        if takes_part and again and not flight.follows:
            self.order.come_next(flight)
        if takes_part and self._admitted((flight,)):
            (self._affinity.put_behind if behind else self._affinity.put_all)((flight,))

    def comes_first(self, flight: InFlight) -> bool:
        """Return whether this takes a place of its own: as the first of its name, or among the events of its key."""
        first = self._inside.setdefault(flight.request.event_id, flight)
        flight.follows = first is not flight
        if not flight.follows:
            return True
        if first.copies is None:
            first.copies = []
        first.copies.append(flight)
        if flight.order_key is None or flight.revive:
            return False
        return flight.request.digest != first.request.digest or _reading(flight) != _reading(first)

    def rename(self, flight: InFlight, request: ClaimRequest) -> None:
        """Continue an event under another claim. Copies that followed it start again."""
        self._take_out(flight)
        copies, flight.copies = flight.copies, None
        flight.request = request
        self._leave_count(flight)
        self.enter(flight)
        for copy in copies or ():
            self._leave_count(copy)
            self.enter(copy, again=True)

    def report_received(self) -> None:
        """State what was received since the last call."""
        if self._received:
            self._facts(FramesReceived(self._received, self._received_bytes))
            self._received = self._received_bytes = 0

    def settled(self, flights: Iterable[InFlight]) -> None:
        """Let the next events of these keys go on: these are rows now, or letters that PostgreSQL has."""
        if not self.order.used:
            return
        if following := [one for one in map(self.order.settled, flights) if one is not None and not one.follows]:
            self._turn_came(following)

    def finish(self, ended: Sequence[tuple[InFlight, End]]) -> None:
        """The only exit: settle positions, free memory, and end or restart copies."""
        exited = []
        for flight, end in ended:
            self._take_out(flight)
            reading = _reading(flight)
            exited.append(self._exit(flight, end))
            if flight.copies:
                exited += self._finish_copies(flight, end, reading)
        self._settle([position for position in exited if position is not None])

    def _settle(self, positions: Sequence[Position]) -> None:
        settle(positions)
        for position in dict.fromkeys(positions) if self._ours else ():
            if not position.unsettled and (segment := self._ours.pop(position, None)) is not None:
                segment.unsettled -= 1
                if segment.name and not segment.unsettled:
                    self._settled_segments.append(segment.name)
        self._made_room()

    def _made_room(self) -> None:
        self._room.set()
        if not self._count:
            self._emptied.set()

    def _finish_copies(self, flight: InFlight, end: End, reading: int) -> list[Position | None]:
        copies, flight.copies = flight.copies, None
        exited, ended = [], list[str]()
        for copy in copies or ():
            # Events stored before the source was read again may be lost, and the copy is read to replace one.
            stale = not isinstance(end, Buried) and _reading(copy) != reading
            if copy.request.digest == flight.request.digest and not stale and not _is_by_its_letter(copy, flight, end):
                exited.append(self._exit(copy, DUPLICATE if isinstance(end, Stored) else end))
                ended.append(copy.event.event_id)
            else:
                self._leave_count(copy)
                self.enter(copy, behind=copy.revive)
        if ended:
            self._facts(EventsDuplicate(tuple(ended)))
        return exited

    def forget(self, flight: InFlight) -> None:
        """Release an unsettled event. Its position stays open, so it is read again; a letter is taken again."""
        self._take_out(flight)
        self._leave_count(flight)
        self._made_room()

    def _take_out(self, flight: InFlight) -> None:
        if self._inside.get(flight.request.event_id) is flight:
            del self._inside[flight.request.event_id]

    def _exit(self, flight: InFlight, end: End) -> Position | None:
        """End an event, and return its position in the source, once."""
        if flight.order_key is not None:  # also of a copy: a conflict may have become one while it was the first
            self.settled((flight,))
        self._beyond.discard(flight)
        self._leave_count(flight)
        flight.end = end
        if flight.on_end is not None:
            flight.on_end(flight)
        position, flight.position = flight.position, None
        return position

    def _leave_count(self, flight: InFlight) -> None:
        self._count -= 1
        self._bytes -= len(flight.event.frame) + ENTRY_BYTES


def _is_by_its_letter(copy: InFlight, first: InFlight, end: End) -> bool:
    """Whether the first may count as settled by the very letter whose event the copy is. Then the copy goes on."""
    return copy.revive and not first.revive and not isinstance(end, Stored)


def _reading(flight: InFlight) -> int:
    return 0 if flight.position is None else flight.position.reading
