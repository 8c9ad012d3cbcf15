"""An inlet: where the messages of one source enter. It tracks how far that source is settled.

All inlets of a listener share one intake. Each cuts its own stream into segments and has a watermark of its own, so a
source that stands still does not delay others.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from unlost.listener.core.clocks import Clocks
from unlost.listener.core.in_flight import InFlight
from unlost.listener.core.order_key import AfterLetterOf, KeyOf, nearest_policy
from unlost.listener.core.oversized import Oversized
from unlost.listener.core.watermark import Position, Watermark
from unlost.listener.pipeline.frames import flight_of, flight_of_oversized, last_of, read_frames
from unlost.listener.pipeline.intake import Intake
from unlost.listener.pipeline.peers.affinity import PeerAffinity
from unlost.listener.pipeline.peers.segments import Segment, Segmenter, SegmentPiece
from unlost.listener.ports.source import Batch


class Inlet:
    """Admits the messages of one source."""

    def __init__(
        self,
        *,
        source: str | None = None,
        intake: Intake,
        segmenter: Segmenter | None,
        affinity: PeerAffinity,
        max_bytes: int,
        clocks: Clocks,
        key_of: KeyOf | None = None,
        after_letter: AfterLetterOf | None = None,
        acknowledge: Callable[[Sequence[Any]], None] | None = None,
    ) -> None:
        """Make one. There is no segmenter if no peer receives these messages too, or if nobody waits for peers.

        ``key_of``: events are processed in the order of these keys. ``after_letter``: what the letter of an event does
        to its key, by type; by default it blocks the key.
        """
        self._after_letter = after_letter or nearest_policy("park", None)
        self._key_of = key_of
        intake.order.used |= key_of is not None
        self._acknowledge = acknowledge
        self.watermark = Watermark(0, acknowledge, source=source)
        self.intake = intake
        self._segmenter = segmenter
        self._affinity = affinity
        self._max_bytes = max_bytes
        self._clocks = clocks

    def receive(self, batch: Batch) -> str | None:
        """Admit messages in the order of the source; return their last cursor."""
        self.intake.count_received(batch.bodies)
        own: list[InFlight] = []
        of_peers: list[InFlight] = []
        of_other_shards: list[InFlight] = []
        pieces = self._cut(batch)
        waits = self._affinity.waits
        read = [(bodies, cursors) for bodies, cursors, _, segment in pieces if not (waits and _is_of_peer(segment))]
        found = iter(read_frames([body for bodies, _ in read for body in bodies], max_bytes=self._max_bytes))
        at, clock = self._clocks.now(), self._clocks.monotonic()
        traces = iter(batch.traces)
        for bodies, cursors, receipt, segment in pieces:
            position = self.watermark.open(last_of(cursors), len(bodies), receipt, clock)
            if waits and _is_of_peer(segment):
                assert segment is not None
                self._affinity.put_later(SegmentPiece(segment, bodies, cursors, position, at, clock))
                continue
            flights = [
                flight_of(what, body, position, at, clock, cursor)
                for what, body, cursor in zip(islice(found, len(bodies)), bodies, cursors, strict=True)
            ]
            if self._key_of is not None:
                self._find_keys(flights)
            for flight, trace in zip(flights, traces, strict=False):  # most sources have none
                flight.trace = trace
            mine, others = self.intake.of_this_shard(flights)
            (of_peers if _is_of_peer(segment) else own).extend(filter(self.intake.comes_first, mine))
            of_other_shards += others
            self._follow(segment, position)
        self.intake.queue(own, of_peers)
        self.intake.end_of_other_shards(of_other_shards)
        return last_of(batch.cursors)

    def _cut(self, batch: Batch) -> list[tuple[Sequence[bytes], Sequence[str | None], Any, Segment | None]]:
        """Cut a batch into the pieces that get a position of their own."""
        bodies, cursors = batch.bodies, batch.cursors
        pieces: list[tuple[Sequence[bytes], Sequence[str | None], Any, Segment | None]] = []
        begin = 0
        if batch.receipts:
            for count, receipt in batch.receipts:
                end = begin + count
                pieces.append((bodies[begin:end], cursors[begin:end], receipt, None))
                begin = end
            return pieces
        if self._segmenter is None:
            return [(bodies, cursors, None, None)]
        for piece, segment in self._segmenter.cut(bodies):
            end = begin + len(piece)
            pieces.append((piece, cursors[begin:end], None, segment))
            begin = end
        return pieces

    def _follow(self, segment: Segment | None, position: Position) -> None:
        """Track whether all of an own segment is settled, or check whether a peer settles its segment."""
        if segment is None:
            return
        if not segment.is_of_peer:
            self.intake.follow(segment, position)
        elif segment.name:
            self._affinity.put_later(SegmentPiece(segment))

    def receive_apart(self, batch: Batch) -> None:
        """Admit messages whose cursors are ignored: events before them in the source are still to be read."""
        at, clock = self._clocks.now(), self._clocks.monotonic()
        position = self.watermark.open(None, len(batch.bodies), at=clock)
        found = read_frames(batch.bodies, max_bytes=self._max_bytes)
        for what, body, cursor in zip(found, batch.bodies, batch.cursors, strict=True):
            flight = flight_of(what, body, position, at, clock, cursor)
            self._enter(flight)

    def _enter(self, flight: InFlight) -> None:
        """Admit one event, unless another shard stores it."""
        mine, others = self.intake.of_this_shard((flight,))
        self.intake.pass_over(others)
        if self._key_of is not None:
            self._find_keys(mine)
        for one in mine:
            self.intake.enter(one)

    def _find_keys(self, flights: Sequence[InFlight]) -> None:
        assert self._key_of is not None
        for flight in flights:
            if not flight.is_no_event:
                flight.order_key = self._key_of(flight.event, self.watermark.source)
                flight.after_letter = self._after_letter(flight.event.type)

    def receive_oversized(self, whole: Oversized) -> None:
        """Admit the measurements of a message that is larger than any event may be."""
        self.intake.count_received((), whole.length)
        clock = self._clocks.monotonic()
        position = self.watermark.open(None, at=clock)
        flight = flight_of_oversized(whole, position, self._clocks.now(), clock, max_bytes=self._max_bytes)
        self._enter(flight)

    def overflow(self, body: bytes, cursor: str | None) -> InFlight | None:
        """Bury a message for which there is no room. It is never claimed. None: another shard stores its event."""
        found = read_frames((body,), max_bytes=self._max_bytes)[0]
        clock = self._clocks.monotonic()
        position = self.watermark.open(cursor, at=clock)
        flight = flight_of(found, body, position, self._clocks.now(), clock, cursor)
        mine, others = self.intake.of_this_shard((flight,))
        self.intake.pass_over(others)
        if not mine:
            return None
        if self._key_of is not None:
            self._find_keys(mine)
        self.intake.enter_beyond(flight)
        return flight

    def read_again(self) -> None:
        """Prepare for reading the source from a stored cursor again. Nothing received before counts for the new cursor.

        Events in memory are processed as before.
        """
        now = self.watermark
        now.end()
        self.watermark = Watermark(now.reading + 1, self._acknowledge, source=now.source)
        if self._segmenter is not None:
            self._segmenter.begin_anew()


def _is_of_peer(segment: Segment | None) -> bool:
    return segment is not None and segment.is_of_peer
