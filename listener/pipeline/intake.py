"""The intake: bounds what a listener holds in memory, by count and bytes. Each event enters and leaves here, once.

An event that is in memory already is not claimed a second time: its copy follows the first and ends with it. A frame
that is not a valid event enters too, marked for burial, under a name made from its bytes.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice

from unlost.listener.core.claim import ClaimRequest
from unlost.listener.core.clocks import Clocks
from unlost.listener.core.errors import Transient, failure_of
from unlost.listener.core.event import Event
from unlost.listener.core.facts import EventsDuplicate, Facts, FramesReceived, FramesUnread
from unlost.listener.core.in_flight import DUPLICATE, Buried, End, InFlight, Stored, unlettered
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.watermark import Position, Watermark
from unlost.listener.pipeline.frames import flight_of, flight_of_oversized, last_cursor, read_frames
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Part, Segment, Segmenter, cursor_at_end
from unlost.listener.pipeline.policy import Policy

ENTRY_BYTES = 600
"""Roughly the memory that one event costs beside its own bytes."""


class Intake:
    """Admits events and releases them."""

    def __init__(
        self, *, policy: Policy, segmenter: Segmenter, affinity: PeerAffinity, clocks: Clocks, facts: Facts
    ) -> None:
        self.watermark = Watermark()
        self._segmenter = segmenter
        self._policy = policy
        self._affinity = affinity
        self._clocks = clocks
        self._facts = facts
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
        """How many bytes they count for."""
        return self._bytes

    def find(self, event_id: str) -> InFlight | None:
        """Return the event with this id, if it is in memory."""
        return self._inside.get(event_id)

    def inside(self) -> list[InFlight]:
        """Return everything in memory now, without copies."""
        return list(self._inside.values())

    async def wait_for_room(self, *, spare: int = 0) -> None:
        """Return once a further event may be read; with ``spare``, so many events above the usual limit."""
        while self._count >= self._policy.max_events + spare or (not spare and self.full):
            self._room.clear()
            await self._room.wait()

    async def wait_until_empty(self) -> None:
        """Return once nothing is in memory."""
        while self._count:
            self._emptied.clear()
            await self._emptied.wait()

    def receive(self, frames: Sequence[bytes]) -> str | None:
        """Admit frames of the source in their order; return their last cursor."""
        size = sum(map(len, frames))
        self._received += len(frames)
        self._received_bytes += size
        self._count += len(frames)
        self._bytes += size + ENTRY_BYTES * len(frames)
        pieces = self._segmenter.cut(frames)
        if self._affinity.waits:
            frames = [frame for piece, segment in pieces if not _is_of_peer(segment) for frame in piece]
        found = iter(read_frames(frames, max_bytes=self._policy.max_event_bytes))
        at, clock = self._clocks.now(), self._clocks.monotonic()
        newest: str | None = None
        own: list[InFlight] = []
        of_peers: list[InFlight] = []
        for piece, segment in pieces:
            if self._affinity.waits and segment is not None and segment.is_of_peer:
                position = self.watermark.open(cursor_at_end(piece[-1]), len(piece))
                self._affinity.put_later(Part(segment, piece, position, at, clock))
            else:
                events = list(islice(found, len(piece)))
                position = self.watermark.open(last_cursor(events), len(piece))
                flights = [
                    flight_of(what, frame, position, at, clock) for what, frame in zip(events, piece, strict=True)
                ]
                (of_peers if _is_of_peer(segment) else own).extend(filter(self._comes_first, flights))
                self._follow(segment, position)
            newest = newest if position.cursor is None else position.cursor
        if own:
            self._affinity.put_all(own)
        if of_peers:
            self._affinity.put_behind(of_peers)
        return newest

    def read_again(self) -> None:
        """Prepare for reading the source from a stored cursor again. Nothing received before counts for the new cursor.

        Events in memory are processed as before. Segments that have begun are not announced as settled.
        """
        self.watermark = Watermark(self.watermark.reading + 1)
        self._segmenter.begin_anew()
        self._ours.clear()
        self._settled_segments.clear()

    def receive_apart(self, frames: Sequence[bytes]) -> None:
        """Admit frames whose cursors do not count: events before them in the source are still to be read."""
        at, clock = self._clocks.now(), self._clocks.monotonic()
        position = self.watermark.open(None, len(frames))
        found = read_frames(frames, max_bytes=self._policy.max_event_bytes)
        for what, frame in zip(found, frames, strict=True):
            self._enter(flight_of(what, frame, position, at, clock))

    def receive_oversized(self, whole: Oversized) -> None:
        """Admit the measurements of a frame that is larger than any event may be."""
        self._received += 1
        self._received_bytes += whole.length
        flight = flight_of_oversized(
            whole, self.watermark.open(None), self._clocks.now(), self._clocks.monotonic(),
            max_bytes=self._policy.max_event_bytes,
        )  # fmt: skip
        self._enter(flight)

    def _follow(self, segment: Segment | None, position: Position) -> None:
        """Track whether all of an own segment is settled, and watch whether a peer settles its own."""
        if segment is None:
            return
        if not segment.is_of_peer:
            segment.unsettled += 1
            self._ours[position] = segment
        elif segment.name:
            self._affinity.put_later(Part(segment))

    def settled_segments(self) -> list[ClaimRequest]:
        """Return the names of own segments that have become settled since the last call."""
        names, self._settled_segments = self._settled_segments, []
        return names

    def read(self, parts: Sequence[Part]) -> None:
        """Read the frames that peers did not settle. From here on they are events like all others."""
        self._affinity.ended(parts)
        frames = [frame for part in parts for frame in part.frames]
        found = iter(read_frames(frames, max_bytes=self._policy.max_event_bytes))
        flights = [
            flight_of(next(found), frame, part.position, part.received_at, part.received_clock)
            for part in parts
            for frame in part.frames
        ]
        for flight in flights:
            flight.of_peer = True
        self._affinity.put_behind(list(filter(self._comes_first, flights)))

    def end_unread(self, parts: Sequence[Part]) -> None:
        """End the frames that peers settled as duplicates."""
        self._affinity.ended(parts)
        count = sum([len(part.frames) for part in parts])
        self._count -= count
        self._bytes -= sum([len(frame) for part in parts for frame in part.frames]) + ENTRY_BYTES * count
        self.watermark.settle_whole([part.position for part in parts if part.position])
        self._made_room()
        if count:
            self._facts(FramesUnread(count))

    def overflow(self, frame: bytes) -> InFlight:
        """Take a frame for which there is no room, only to bury it. It is never claimed."""
        found = read_frames((frame,), max_bytes=self._policy.max_event_bytes)
        position = self.watermark.open(last_cursor(found))
        flight = flight_of(found[0], frame, position, self._clocks.now(), self._clocks.monotonic())
        self._beyond.add(flight)
        self._count += 1
        self._bytes += flight.event.size + ENTRY_BYTES
        error_now = Transient("PostgreSQL was away, memory was full, and the source cannot resume")
        flight.attempts.append(failure_of(error_now, stage="receive", at=flight.received_at))
        return flight

    def offer(self, event: Event, on_end: Callable[[InFlight], None]) -> None:
        """Admit an event from a dead letter instead of the source: it is revived."""
        flight = flight_of(event, event.frame, None, self._clocks.now(), self._clocks.monotonic())
        flight.revive = True
        flight.on_end = on_end
        self._enter(flight)

    def offer_behind(self, frame: bytes | Oversized, on_end: Callable[[InFlight], None]) -> None:
        """Admit an event from an earlier start's letter, behind all others. The letter stays until the event ends."""
        at, clock, most = self._clocks.now(), self._clocks.monotonic(), self._policy.max_event_bytes
        if isinstance(frame, Oversized):
            flight = flight_of_oversized(frame, None, at, clock, max_bytes=most)
        else:
            flight = flight_of(read_frames((frame,), max_bytes=most)[0], frame, None, at, clock)
        flight.on_end = on_end
        self._enter(flight, behind=True)

    def left(self) -> list[InFlight]:
        """Return every received event that has not ended, one for each content, without those that have a letter."""
        self.read(self._affinity.unread)
        return unlettered((*self._inside.values(), *self._beyond))

    def _enter(self, flight: InFlight, *, behind: bool = False) -> None:
        self._count += 1
        self._bytes += flight.event.size + ENTRY_BYTES
        if self._comes_first(flight):
            (self._affinity.put_behind if behind else self._affinity.put_all)((flight,))

    def _comes_first(self, flight: InFlight) -> bool:
        """Return whether this is the first of its name in memory. Otherwise it follows the first."""
        first = self._inside.setdefault(flight.request.event_id, flight)
        if first is flight:
            return True
        if first.copies is None:
            first.copies = []
        first.copies.append(flight)
        return False

    def rename(self, flight: InFlight, request: ClaimRequest) -> None:
        """Let an event go on under another claim. Copies that followed it start again."""
        self._take_out(flight)
        copies, flight.copies = flight.copies, None
        flight.request = request
        self._leave_count(flight)
        self._enter(flight)
        for copy in copies or ():
            self._leave_count(copy)
            self._enter(copy)

    def report_received(self) -> None:
        """State what was received since the last call."""
        if self._received:
            self._facts(FramesReceived(self._received, self._received_bytes))
            self._received = self._received_bytes = 0

    def finish(self, ended: Sequence[tuple[InFlight, End]]) -> None:
        """The only exit: settle positions, make room, and end or restart the copies that followed."""
        exited = []
        for flight, end in ended:
            self._take_out(flight)
            reading = _reading(flight)
            exited.append(self._exit(flight, end))
            if flight.copies:
                exited += self._finish_copies(flight, end, reading)
        self._settle([position for position in exited if position is not None])

    def _settle(self, positions: Sequence[Position]) -> None:
        self.watermark.settle(positions)
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
            if copy.request.digest == flight.request.digest and not stale:
                exited.append(self._exit(copy, DUPLICATE if isinstance(end, Stored) else end))
                ended.append(copy.event.event_id)
            else:
                self._leave_count(copy)
                self._enter(copy)
        if ended:
            self._facts(EventsDuplicate(tuple(ended)))
        return exited

    def forget(self, flight: InFlight) -> None:
        """Release an unsettled event in an orderly stop. Its position stays open, so it is read again."""
        self._take_out(flight)
        self._leave_count(flight)
        if not self._count:
            self._emptied.set()

    def _take_out(self, flight: InFlight) -> None:
        if self._inside.get(flight.request.event_id) is flight:
            del self._inside[flight.request.event_id]

    def _exit(self, flight: InFlight, end: End) -> Position | None:
        """End an event, and return its position in the source, once."""
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


def _reading(flight: InFlight) -> int:
    return 0 if flight.position is None else flight.position.reading


def _is_of_peer(segment: Segment | None) -> bool:
    return segment is not None and segment.is_of_peer
